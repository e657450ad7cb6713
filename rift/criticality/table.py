"""The criticality table: mean, standard error, rank and ties per module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
        tied: whether ``mrc`` cannot be distinguished from that of the first settled rank: the
            difference, image by image, is within 1.96 standard errors. True for that rank itself,
            and False for those before it, which only a race has: no scope may choose them.
        images: number of images that it was measured on.
        settled: whether the rank counts. False for modules that a race measured on fewer images or
            with less effort than the chosen ones: their order among themselves is a rough one.
        mrc_upper: estimate of the largest rise in the weight ball, in nats, from several
            independent starts; NaN if the search makes none.
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
    images: int
    settled: bool
    mrc_upper: float


@dataclass(frozen=True)
class Place:
    """What a search knows about the place of a module among all.

    Attributes:
        settled: whether the order by MRC counts for it.
        upper: estimate of the largest rise in the weight ball, in nats; NaN without one.
        at_least: MRC of the last module that is surely less critical; None without one.
        at_most: MRC of the last module that is surely more critical; None without one.
    """

    settled: bool = True
    upper: float = float("nan")
    at_least: float | None = None
    at_most: float | None = None

    def order(self, mrc: float) -> tuple[float, int]:
        """Return the key by which a module with some MRC is ranked."""
        if self.at_least is not None and mrc <= self.at_least:
            return self.at_least, 1
        if self.at_most is not None and mrc >= self.at_most:
            return self.at_most, -1
        return mrc, 0


@dataclass(frozen=True)
class Measurement:
    """Measurements of some modules of a network, all on the same adversarial examples.

    A sample is an image, or a batch for ``gradient``.

    Attributes:
        modules: name, kind and number of parameters per module.
        losses: loss of each image by the network itself, in nats, N; NaN if no module was measured
            on it.
        correct: whether the network itself classifies each image correctly, N.
        images: number of images per sample, K.
        rises: rise of the loss of each sample at the weight that was found, in nats, modules×K; NaN
            if the module was not measured on it.
        kept: whether each image is still classified correctly there, modules×N; modules×0 if the
            search evaluates no weight.
        places: what a search knows about the place of a module, by name.
    """

    modules: Sequence[tuple[str, str, int]]
    losses: NDArray[np.float32]
    correct: NDArray[np.bool_]
    images: NDArray[np.float64]
    rises: NDArray[np.float64]
    kept: NDArray[np.bool_]
    places: Mapping[str, Place] = field(default_factory=dict)


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
    places = {name: place for part in parts for name, place in part.places.items()}
    return Measurement(
        facts, first.losses, first.correct, first.images, np.stack(rises), np.stack(kept), places
    )


def criticality_table(measurement: Measurement) -> list[ModuleCriticality]:
    """Return one row per module, in the order of the measurement."""
    samples = [_Samples(measurement, number) for number in range(len(measurement.modules))]
    places = [measurement.places.get(name, Place()) for name, *_ in measurement.modules]
    ranking = sorted(
        range(len(samples)), key=lambda number: places[number].order(samples[number].mean)
    )
    least = next(number for number in ranking if places[number].settled)
    from_least = ranking[ranking.index(least) :]
    return [
        ModuleCriticality(
            *facts,
            mrc=each.mean,
            mrc_error=_error(each.rises, each.images),
            robust_loss=each.base + each.mean,
            robust_accuracy_drop=each.drop,
            rank=ranking.index(number) + 1,
            tied=number in from_least and each.is_tied_with(samples[least]),
            images=int(each.images.sum()),
            settled=place.settled,
            mrc_upper=place.upper,
        )
        for number, (facts, each, place) in enumerate(
            zip(measurement.modules, samples, places, strict=True)
        )
    ]


class _Samples:
    """The samples that one module was measured on.

    Attributes:
        rises: rise of the loss of each sample, in nats.
        images: number of images of each sample.
        mean: mean rise over images.
        base: mean loss of the network itself on these images.
        drop: lost accuracy on these images, in percentage points; NaN if no weight was evaluated.
    """

    def __init__(self, measurement: Measurement, number: int) -> None:
        self._all = measurement.rises[number]
        self._weights = measurement.images
        used = ~np.isnan(self._all)
        self.rises, self.images = self._all[used], measurement.images[used]
        self.mean = float(np.average(self.rises, weights=self.images))
        kept, correct, losses = measurement.kept[number], measurement.correct, measurement.losses
        if len(used) == len(losses):
            losses, correct, kept = losses[used], correct[used], kept[used[: len(kept)]]
        self.base = float(losses.astype(np.float64).mean())
        self.drop = float(100 * (correct.mean() - kept.mean())) if len(kept) else float("nan")

    def is_tied_with(self, least: "_Samples") -> bool:
        """Return whether the mean cannot be distinguished from that of the least critical one."""
        common = ~np.isnan(self._all) & ~np.isnan(least._all)
        images = self._weights[common]
        difference = (self._all - least._all)[common]
        if common.all():
            above = self.mean - least.mean
        else:
            above = float(np.average(difference, weights=images))
        return above <= ERRORS * _error(difference, images)


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
