"""The criticality table: mean, standard error, rank and ties per module."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rift.errors import RiftError
from rift.statistics import ERRORS


@dataclass(frozen=True)
class ModuleCriticality:
    """A row of the criticality table: how critical one module is to robustness.

    Attributes:
        module: name of the module.
        kind: ``conv`` or ``linear``.
        parameters: number of entries of its weight.
        mrc: largest rise of the robust loss that was found in the weight ball, in nats. A search
            never returns a negative one, because the centre of the ball counts.
        mrc_error: standard error of that rise over images (for ``gradient``, over batches), in
            nats. It says how far the rise would move with other images of the same kind, at the
            same weight. NaN if there is only one image or batch.
        robust_loss: cross-entropy of the adversarial examples at the weight that was found, in
            nats.
        robust_accuracy_drop: accuracy on the adversarial examples that is lost there, in percentage
            points; NaN if the search evaluates no weight.
        rank: place in ascending order of ``mrc``, from 1; ties go to the earlier module.
        tied: whether ``mrc`` cannot be distinguished from that of rank 1: the difference, image by
            image, is within 1.96 standard errors. True for rank 1 itself.
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
    """Measurements of some modules of a network, all on the same adversarial examples.

    A sample is an image, or a batch for ``gradient``.

    Attributes:
        modules: name, kind and number of parameters per module.
        losses: loss of each image by the network itself, in nats, N.
        correct: whether the network itself classifies each image correctly, N.
        images: number of images per sample, K.
        rises: rise of the loss of each sample at the weight that was found, in nats, modules×K.
        kept: whether each image is still classified correctly there, modules×N; modules×0 if the
            search evaluates no weight.
    """

    modules: Sequence[tuple[str, str, int]]
    losses: NDArray[np.float32]
    correct: NDArray[np.bool_]
    images: NDArray[np.float64]
    rises: NDArray[np.float64]
    kept: NDArray[np.bool_]


def join(parts: Sequence[Measurement], order: Sequence[str]) -> Measurement:
    """Merge the measurements of several shards.

    Args:
        parts: measurements of the shards; each module is in exactly one of them.
        order: names of the modules in the network's order.

    Raises:
        RiftError: a module is missing or measured twice, or the parts differ in their images or in
            the network.
    """
    first = parts[0]
    for part in parts[1:]:
        if not (
            np.array_equal(part.losses, first.losses) and np.array_equal(part.images, first.images)
        ):
            raise RiftError(
                "the shards differ in their images or in the network; measure all of them again"
            )
    rows = {
        facts[0]: (facts, rises, kept)
        for part in parts
        for facts, rises, kept in zip(*_columns(part), strict=True)
    }
    if sorted(rows) != sorted(order) or sum(len(part.modules) for part in parts) != len(order):
        raise RiftError(
            "the shards do not contain each module of the network exactly once; pass each shard"
            " once"
        )
    facts, rises, kept = zip(*(rows[name] for name in order), strict=True)
    return Measurement(
        facts, first.losses, first.correct, first.images, np.stack(rises), np.stack(kept)
    )


def criticality_table(measurement: Measurement) -> list[ModuleCriticality]:
    """Return one row per module, in the order of the measurement."""
    images = measurement.images
    base = float(measurement.losses.astype(np.float64).mean())
    evaluated = measurement.kept.shape[1] > 0
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
            if evaluated
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
    """Return the standard error of a mean over samples of several images; NaN for one sample."""
    if len(samples) == 1:
        return float("nan")
    deviations = samples - np.average(samples, weights=images)
    return float(
        np.sqrt((images**2 * deviations**2).sum() * len(samples) / (len(samples) - 1))
        / images.sum()
    )
