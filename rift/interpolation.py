"""Interpolation from the base to fine-tuned weights, and the choice of a point (Zhu et al. 2023, section 4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from rift.config import Attack, Interpolate
from rift.data.images import Images
from rift.device import autocast
from rift.evaluation.accuracy import correct, percent, withstands_pgd
from rift.models.state import snapshot
from rift.progress import Progress, no_progress, part_of
from rift.seeds import generator


@dataclass(frozen=True)
class Point:
    """A row of the sweep: accuracies on the selection split, in percent."""

    alpha: float
    standard_accuracy: float
    adversarial_accuracy: float


def interpolate(
    base: Mapping[str, Tensor], finetuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """Return θ(α) = (1 − α)·θ_base + α·θ_finetuned over all floating-point entries, running statistics included.

    At 0 and 1 the result equals the ends exactly. Entries that are not floating point (counters) are those of the base.
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
    """Measure every α on the selection split, under the same random starts of PGD.

    Args:
        model: left as it was.
        base: state dict of the base, α = 0.
        finetuned: state dict of the fine-tuned weights, α = 1.
        data: selection split, on the device of the model.
        settings: points, restarts and precision of PGD.
        attack: threat model and steps.
        seed: of the random starts.
        progress: called after every batch.
    """
    before, device = snapshot(model), data.device
    points: list[Point] = []
    try:
        for number, alpha in enumerate(settings.alphas, start=1):
            model.load_state_dict(interpolate(base, finetuned, alpha))
            standard = percent(correct(model, data))
            with autocast(settings.precision, device):
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
    """The point of a sweep that is chosen.

    Attributes:
        base: α = 0.
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
    """Choose a point of a sweep by ``select``, and compute its weights."""
    alpha = select(points, tolerance)
    at = {point.alpha: point for point in points}
    return Selection(at[0], at[alpha], interpolate(base, finetuned, alpha))


def select(points: Sequence[Point], tolerance: float) -> float:
    """Choose α: the largest standard accuracy among the points that are as robust as the base.

    Args:
        points: the sweep, with α = 0 (the base) among them.
        tolerance: adversarial accuracy that may be lost against the base, in percentage points.

    Returns:
        The chosen α; of equal ones the more robust, then the one closer to the base.
    """
    (base,) = (point for point in points if point.alpha == 0)
    # Accuracies are sums of 1/N: what differs by the tolerance exactly must not fail by a rounding error.
    floor = base.adversarial_accuracy - tolerance - 1e-9
    robust = [point for point in points if point.adversarial_accuracy >= floor]
    return max(
        robust,
        key=lambda point: (point.standard_accuracy, point.adversarial_accuracy, -point.alpha),
    ).alpha
