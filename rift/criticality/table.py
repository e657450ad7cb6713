"""From what was measured of every image to a row a module: mean, standard error, rank, and what ranks cannot tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rift.errors import RiftError
from rift.statistics import ERRORS


@dataclass(frozen=True)
class ModuleCriticality:
    """How much robustness hangs on one module.

    Attributes:
        module: its name.
        kind: conv or linear.
        parameters: entries of its weight.
        mrc: largest rise of the robust loss found in the weight ball, in nats; if searched for, never negative, as the ball's
            centre counts.
        mrc_error: standard error of that rise over images (of ``gradient``: over batches), in nats: how far it would move with
            other images of the same kind, the moved weight staying. Not a number where there is one batch alone.
        robust_loss: cross-entropy on the adversarial examples where that rise was found, in nats.
        robust_accuracy_drop: accuracy on the adversarial examples lost there, in percentage points; not a number if not looked
            at.
        rank: place in rising order of mrc, from 1; of equal ones the earlier module first.
        tied: whether its mrc cannot be told from that of rank 1: the difference, image by image, is within 1.96 standard
            errors. So it is for rank 1 itself.
    """

    module: str
    kind: str
    parameters: int
    mrc: float
    mrc_error: float
    robust_loss: float
    robust_accuracy_drop: float
    rank: int
    tied: bool


@dataclass(frozen=True)
class Measurement:
    """What was measured of some modules of a network, all on the same adversarial examples.

    Attributes:
        modules: name, kind and number of parameters of each.
        losses: of the network itself, in nats, N.
        correct: whether it classifies each image correctly, N.
        images: how many images each sample stands for, K.
        rises: by how much the loss of a sample rises where the worst was found, modules×K.
        kept: whether each image is classified correctly there, modules×N; without columns if not looked at.
    """

    modules: Sequence[tuple[str, str, int]]
    losses: NDArray[np.float32]
    correct: NDArray[np.bool_]
    images: NDArray[np.float64]
    rises: NDArray[np.float64]
    kept: NDArray[np.bool_]


def join(parts: Sequence[Measurement], order: Sequence[str]) -> Measurement:
    """Put together what was measured of the modules of one network in several places.

    Args:
        parts: every module in exactly one of them.
        order: the modules' names in the network's order.

    Raises:
        RiftError: a module is missing or measured twice, or parts differ in their images or in the network.
    """
    first = parts[0]
    for part in parts[1:]:
        if not (
            np.array_equal(part.losses, first.losses) and np.array_equal(part.images, first.images)
        ):
            raise RiftError(
                "shards were measured on other images or on another network; measure all of them again"
            )
    rows = {
        facts[0]: (facts, rises, kept)
        for part in parts
        for facts, rises, kept in zip(*_columns(part), strict=True)
    }
    if sorted(rows) != sorted(order) or sum(len(part.modules) for part in parts) != len(order):
        raise RiftError("shards do not hold each module of the network exactly once")
    facts, rises, kept = zip(*(rows[name] for name in order), strict=True)
    return Measurement(
        facts, first.losses, first.correct, first.images, np.stack(rises), np.stack(kept)
    )


def criticality_table(measurement: Measurement) -> list[ModuleCriticality]:
    """Sum up a row a module, in the order of the measurement."""
    images = measurement.images
    base = float(measurement.losses.astype(np.float64).mean())
    looked_at = measurement.kept.shape[1] > 0
    accuracy = measurement.correct.mean()
    means = [float(np.average(rises, weights=images)) for rises in measurement.rises]
    ranking = sorted(range(len(means)), key=lambda number: means[number])
    least = measurement.rises[ranking[0]]
    return [
        ModuleCriticality(
            *facts,
            mrc=means[number],
            mrc_error=_error(rises, images),
            robust_loss=base + means[number],
            robust_accuracy_drop=float(100 * (accuracy - kept.mean()))
            if looked_at
            else float("nan"),
            rank=ranking.index(number) + 1,
            tied=bool(means[number] - means[ranking[0]] <= ERRORS * _error(rises - least, images)),
        )
        for number, (facts, rises, kept) in enumerate(zip(*_columns(measurement), strict=True))
    ]


def _columns(
    measurement: Measurement,
) -> tuple[Sequence[tuple[str, str, int]], NDArray[np.float64], NDArray[np.bool_]]:
    return measurement.modules, measurement.rises, measurement.kept


def _error(samples: NDArray[np.float64], images: NDArray[np.float64]) -> float:
    """Standard error of a mean over samples that stand for several images each; not a number for one sample alone."""
    if len(samples) == 1:
        return float("nan")
    deviations = samples - np.average(samples, weights=images)
    return float(
        np.sqrt((images**2 * deviations**2).sum() * len(samples) / (len(samples) - 1))
        / images.sum()
    )
