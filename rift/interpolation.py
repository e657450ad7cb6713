"""Interpolation from the base to fine-tuned weights, and the choice of a point (Zhu et al. 2023, section 4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rift.config import Attack, Interpolate
from rift.data.split import Split
from rift.evaluation.accuracy import correct, percent, withstands_pgd
from rift.progress import Progress, one_of, silent
from rift.seeds import generator
from rift.training.epoch import arithmetic


@dataclass(frozen=True)
class Point:
    """A row of the sweep: accuracies on the selection split, in percent."""

    alpha: float
    standard_accuracy: float
    adversarial_accuracy: float


def interpolate(base: Mapping[str, Tensor], finetuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
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
    data: Split,
    settings: Interpolate,
    attack: Attack,
    seed: int,
    progress: Progress = silent,
) -> list[Point]:
    """Measure every α on the selection split, under the same random starts of PGD.

    The model is left with the weights of the last α, in eval mode.
    """
    model.eval()
    device = data.images.device
    in_bfloat16 = arithmetic(settings.precision, device) == "bfloat16"
    points: list[Point] = []
    for number, alpha in enumerate(settings.alphas, start=1):
        model.load_state_dict(interpolate(base, finetuned, alpha))
        standard = percent(correct(model, data))
        starts = generator(seed, "sweep", device)
        within = one_of(progress, number, len(settings.alphas))
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
            withstood = withstands_pgd(
                model, data, attack, restarts=settings.restarts, generator=starts, progress=within
            )
        adversarial = percent(withstood)
        points.append(Point(alpha, standard, adversarial))
        note = f"alpha {alpha:g}: accuracy {standard:.2f}%, under PGD {adversarial:.2f}%"
        progress(number, len(settings.alphas), note)
    return points


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
    return max(robust, key=lambda point: (point.standard_accuracy, point.adversarial_accuracy, -point.alpha)).alpha
