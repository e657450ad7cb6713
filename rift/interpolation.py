"""Interpolation from the base to the fine-tuned weights, and selection of a point.

Zhu et al. (2023), section 4.3.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import NormalDist

from torch import Tensor, nn

from rift.config import Attack, Interpolate
from rift.data.images import Images
from rift.device import autocast
from rift.evaluation.accuracy import correct, percent, refuse_non_finite, withstands_pgd
from rift.models.requirements import unwrapped
from rift.models.state import snapshot
from rift.progress import Progress, no_progress, part_of
from rift.seeds import generator


@dataclass(frozen=True)
class Point:
    """A row of the sweep.

    Attributes:
        alpha: position between the base (0) and the fine-tuned weights (1).
        standard_accuracy: accuracy on clean images of the selection split, in percent.
        adversarial_accuracy: accuracy under PGD on the same images, in percent.
        gamma: position between the base (0) and the earned weights (1); None in a sweep without
            earned weights.
        adversarial_error: standard error of the change of adversarial accuracy from the base, in
            percentage points, paired by image; None if the selection does not use it.
    """

    alpha: float
    standard_accuracy: float
    adversarial_accuracy: float
    gamma: float | None = None
    adversarial_error: float | None = None

    @property
    def is_base(self) -> bool:
        """Return whether the weights are those of the base."""
        return self.alpha == 0 and not self.gamma


def interpolate(
    base: Mapping[str, Tensor],
    finetuned: Mapping[str, Tensor],
    alpha: float,
    *,
    earned: Mapping[str, Tensor] | None = None,
    gamma: float | None = None,
) -> dict[str, Tensor]:
    """Return the weights θ(α) = (1 − α)·θ_base + α·θ_finetuned.

    If the fine-tuning started from earned weights, these are a second direction:
    θ(γ, α) = θ_base + γ·(θ_earned − θ_base) + α·(θ_finetuned − θ_earned).

    All floating-point entries are interpolated, running statistics included. Other entries
    (counters) are those of the base. All ends are exact.

    Args:
        base: state dict of the base.
        finetuned: state dict of the fine-tuned network, with the same keys.
        alpha: position between base, or earned weights, and fine-tuned weights, in 0 … 1.
        earned: state dict from which the fine-tuning started, if that is not the base.
        gamma: position between base and earned weights, in 0 … 1.
    """
    if earned is None or gamma is None:
        return {
            name: (1 - alpha) * theta + alpha * finetuned[name]
            if theta.is_floating_point()
            else theta
            for name, theta in base.items()
        }
    return {
        name: (1 - gamma) * theta + (gamma - alpha) * earned[name] + alpha * finetuned[name]
        if theta.is_floating_point()
        else theta
        for name, theta in base.items()
    }


def sweep(
    model: nn.Module,
    base: Mapping[str, Tensor],
    finetuned: Mapping[str, Tensor],
    data: Images,
    *,
    settings: Interpolate,
    attack: Attack,
    seed: int,
    earned: Mapping[str, Tensor] | None = None,
    gammas: Sequence[float] = (),
    progress: Progress = no_progress,
) -> list[Point]:
    """Measure every α on the selection split, with the same random starts of PGD.

    With earned weights, every α is measured at every γ.

    Args:
        model: network that the weights fit; its own weights are restored.
        base: state dict of the base, α = 0.
        finetuned: state dict of the fine-tuned network, α = 1.
        data: selection split, on the device of the model.
        settings: values of α, restarts of PGD, and the precision of PGD.
        attack: threat model and steps of PGD.
        seed: seed of the random starts.
        earned: state dict from which the fine-tuning started, if that is not the base.
        gammas: with earned weights, the values of γ; 0 is among them.
        progress: called after every batch.

    Returns:
        One point per α, in the order of the settings, for each γ.

    Raises:
        RiftError: the network returns no logits, too few, NaN or infinity.
    """
    model = unwrapped(model)
    before, device = snapshot(model), data.device
    points: list[Point] = []
    withstood: list[Tensor] = []
    places = list(product((None,) if earned is None else gammas, settings.alphas))
    try:
        for number, (gamma, alpha) in enumerate(places, start=1):
            where = f"alpha {alpha:g}" if gamma is None else f"gamma {gamma:g}, alpha {alpha:g}"
            model.load_state_dict(interpolate(base, finetuned, alpha, earned=earned, gamma=gamma))
            with refuse_non_finite(model, where):
                standard = percent(correct(model, data))
            with autocast(settings.precision, device), refuse_non_finite(model, where):
                outcomes = withstands_pgd(
                    model,
                    data,
                    attack=attack,
                    restarts=settings.restarts,
                    generator=generator(seed, "sweep", device),
                    progress=part_of(progress, number, len(places)),
                )
            withstood.append(outcomes)
            adversarial = percent(outcomes)
            points.append(Point(alpha, standard, adversarial, gamma))
            note = f"{where}: accuracy {standard:.2f}%, under PGD {adversarial:.2f}%"
            progress(number, len(places), note)
    finally:
        model.load_state_dict(before)
    if settings.confidence is None:
        return points
    (of_base,) = (one for point, one in zip(points, withstood, strict=True) if point.is_base)
    return [
        replace(point, adversarial_error=_paired_error(of_base, one))
        for point, one in zip(points, withstood, strict=True)
    ]


def _paired_error(base: Tensor, variant: Tensor) -> float:
    """Return the standard error of a change of accuracy, in percentage points.

    Args:
        base: bool, N: whether the base classifies each image correctly.
        variant: the same of other weights, for the same images.
    """
    changes = variant.double() - base.double()
    return 100 * float(changes.std(correction=0)) / math.sqrt(len(changes))


@dataclass(frozen=True)
class Selection:
    """The chosen point of a sweep.

    Attributes:
        base: the point of the base.
        selected: the chosen point.
        state: state dict of the chosen point.
    """

    base: Point
    selected: Point
    state: dict[str, Tensor]


def choose(
    points: Sequence[Point],
    base: Mapping[str, Tensor],
    finetuned: Mapping[str, Tensor],
    *,
    tolerance: float,
    confidence: float | None = None,
    earned: Mapping[str, Tensor] | None = None,
) -> Selection:
    """Return the point of a sweep that ``select`` chooses, with its weights.

    Args:
        points: the sweep; it contains the base.
        base: state dict of the base.
        finetuned: state dict of the fine-tuned network.
        tolerance: allowed loss of adversarial accuracy against the base, in percentage points.
        confidence: confidence that the loss is within the tolerance, as in ``select``.
        earned: state dict from which the fine-tuning started, if that is not the base.
    """
    found = select(points, tolerance, confidence)
    state = interpolate(base, finetuned, found.alpha, earned=earned, gamma=found.gamma)
    return Selection(_base_of(points), found, state)


def select(points: Sequence[Point], tolerance: float, confidence: float | None = None) -> Point:
    """Return the point of largest standard accuracy among those that are as robust as the base.

    Ties go to the more robust point, then to the point closer to the base.

    Without a confidence, a point is as robust as the base if its loss on the images of the sweep is
    within the tolerance, as in the paper. The best of many points then owes a part of its
    robustness to these images. With a confidence, the upper limit of its loss must be within the
    tolerance, so that all points that count are as robust as the base, on new images too, with this
    probability. The limit is one-sided, from the normal distribution, and shares the error among
    all points but the base (Bonferroni).

    Args:
        points: the sweep; it contains the base.
        tolerance: allowed loss of adversarial accuracy against the base, in percentage points.
        confidence: in 0.5 … 1, without 1; the points then have their ``adversarial_error``.
    """
    base = _base_of(points)
    times = 0.0
    if confidence is not None and len(points) > 1:
        times = NormalDist().inv_cdf(1 - (1 - confidence) / (len(points) - 1))

    def is_robust(point: Point) -> bool:
        error = 0.0 if confidence is None else point.adversarial_error or 0.0
        loss = base.adversarial_accuracy - point.adversarial_accuracy + times * error
        # A point that loses exactly the tolerance must not fail by a rounding error.
        return point.is_base or loss <= tolerance + 1e-9

    return max(
        filter(is_robust, points),
        key=lambda point: (
            point.standard_accuracy,
            point.adversarial_accuracy,
            -point.alpha,
            -(point.gamma or 0),
        ),
    )


def _base_of(points: Sequence[Point]) -> Point:
    """Return the point of the base."""
    (base,) = (point for point in points if point.is_base)
    return base
