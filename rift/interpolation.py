"""Interpolation from the base to the fine-tuned weights, and selection of a point.

Zhu et al. (2023), section 4.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """

    alpha: float
    standard_accuracy: float
    adversarial_accuracy: float


def interpolate(
    base: Mapping[str, Tensor], finetuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """Return the weights θ(α) = (1 − α)·θ_base + α·θ_finetuned.

    All floating-point entries are interpolated, running statistics included. Other entries
    (counters) are those of the base. At α = 0 and α = 1 the result equals the ends exactly.

    Args:
        base: state dict of the base.
        finetuned: state dict of the fine-tuned network, with the same keys.
        alpha: position between the two, in 0 … 1.
    """
    return {
        name: (1 - alpha) * theta + alpha * finetuned[name] if theta.is_floating_point() else theta
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
    progress: Progress = no_progress,
) -> list[Point]:
    """Measure every α on the selection split, with the same random starts of PGD.

    Args:
        model: network that the weights fit; its own weights are restored.
        base: state dict of the base, α = 0.
        finetuned: state dict of the fine-tuned network, α = 1.
        data: selection split, on the device of the model.
        settings: values of α, restarts of PGD, and the precision of PGD.
        attack: threat model and steps of PGD.
        seed: seed of the random starts.
        progress: called after every batch.

    Returns:
        One point per α, in the order of the settings.

    Raises:
        RiftError: the network returns no logits, too few, NaN or infinity.
    """
    model = unwrapped(model)
    before, device = snapshot(model), data.device
    points: list[Point] = []
    try:
        for number, alpha in enumerate(settings.alphas, start=1):
            model.load_state_dict(interpolate(base, finetuned, alpha))
            with refuse_non_finite(model, f"alpha {alpha:g}"):
                standard = percent(correct(model, data))
            with (
                autocast(settings.precision, device),
                refuse_non_finite(model, f"alpha {alpha:g}"),
            ):
                withstood = withstands_pgd(
                    model,
                    data,
                    attack=attack,
                    restarts=settings.restarts,
                    generator=generator(seed, "sweep", device),
                    progress=part_of(progress, number, len(settings.alphas)),
                )
            adversarial = percent(withstood)
            points.append(Point(alpha, standard, adversarial))
            note = f"alpha {alpha:g}: accuracy {standard:.2f}%, under PGD {adversarial:.2f}%"
            progress(number, len(settings.alphas), note)
    finally:
        model.load_state_dict(before)
    return points


@dataclass(frozen=True)
class Selection:
    """The chosen point of a sweep.

    Attributes:
        base: the point at α = 0.
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
) -> Selection:
    """Return the point of a sweep that ``select`` chooses, with its weights.

    Args:
        points: the sweep; it contains α = 0.
        base: state dict of the base.
        finetuned: state dict of the fine-tuned network.
        tolerance: allowed loss of adversarial accuracy against the base, in percentage points.
    """
    alpha = select(points, tolerance)
    at = {point.alpha: point for point in points}
    return Selection(at[0], at[alpha], interpolate(base, finetuned, alpha))


def select(points: Sequence[Point], tolerance: float) -> float:
    """Return the α of largest standard accuracy among the points that are as robust as the base.

    Ties go to the more robust point, then to the point closer to the base.

    Args:
        points: the sweep; it contains α = 0 (the base).
        tolerance: allowed loss of adversarial accuracy against the base, in percentage points.
    """
    (base,) = (point for point in points if point.alpha == 0)
    # A point that loses exactly the tolerance must not fail by a rounding error.
    floor = base.adversarial_accuracy - tolerance - 1e-9
    robust = [point for point in points if point.adversarial_accuracy >= floor]
    return max(
        robust,
        key=lambda point: (point.standard_accuracy, point.adversarial_accuracy, -point.alpha),
    ).alpha
