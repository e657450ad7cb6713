"""Intervals and tests of accuracies. docs/statistics.md gives the formulas and the reasons."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# scipy.stats takes a second to import, as long as a small table takes to make.
from scipy import special

from rift.errors import RiftError

Array = NDArray[Any]

RESAMPLES = 9999
CONFIDENCE = 0.95
ERRORS = float(special.ndtri((1 + CONFIDENCE) / 2))
"""Half width of a 95% normal interval, in standard errors: 1.96."""


class Interval(NamedTuple):
    """A 95% confidence interval, in percent or percentage points."""

    low: float
    high: float


class Accuracy(NamedTuple):
    """A mean accuracy with its spread, in percent.

    Attributes:
        mean: mean over seeds and images.
        sd: standard deviation over seeds (n − 1); NaN for a single seed.
        low: lower end of the 95% interval over images, for a single seed; NaN for several seeds.
        high: upper end of the same interval.
        seeds: number of seeds.
        images: number of images per seed.
    """

    mean: float
    sd: float
    low: float
    high: float
    seeds: int
    images: int


class Delta(NamedTuple):
    """A difference of accuracies with its 95% interval, in percentage points."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Return whether the interval does not contain zero."""
        return self.low > 0 or self.high < 0


class Exact(NamedTuple):
    """The result of an exact test whether two variants differ on the same images.

    Attributes:
        p: two-sided p of all seeds together; for one seed it is McNemar's.
        by_seed: McNemar's exact p per seed.
        gained: number of (image, seed) pairs that only the variant passes.
        lost: number of (image, seed) pairs that only the base passes.
    """

    p: float
    by_seed: tuple[float, ...]
    gained: int
    lost: int


def accuracy(scores: Array) -> Accuracy:
    """Return the mean of scores, with its spread over seeds or its interval over images.

    A single seed gets Wilson's interval if every score is 0 or 1. Otherwise it gets a percentile
    bootstrap over images.

    Args:
        scores: seeds × images, in 0 … 1.
    """
    by_seed = 100 * scores.mean(axis=1)
    if len(scores) > 1:
        return Accuracy(
            float(by_seed.mean()),
            float(by_seed.std(ddof=1)),
            float("nan"),
            float("nan"),
            *scores.shape,
        )
    around = (
        wilson(int(scores.sum()), scores.size) if is_binary(scores) else _bootstrap(100 * scores[0])
    )
    return Accuracy(float(by_seed.mean()), float("nan"), *around, *scores.shape)


def wilson(passed: int, images: int) -> Interval:
    """Return Wilson's 95% interval of an accuracy, in percent.

    Args:
        passed: number of images that passed.
        images: number of images.
    """
    share, weight = passed / images, ERRORS**2 / images
    centre = (share + weight / 2) / (1 + weight)
    half = ERRORS / (1 + weight) * (share * (1 - share) / images + weight / 4 / images) ** 0.5
    low = 0.0 if passed == 0 else centre - half
    high = 1.0 if passed == images else centre + half
    return Interval(100 * low, 100 * high)


def over_seeds(accuracies: Array) -> Interval:
    """Return Student's 95% interval of a mean over seeds, in the unit of the accuracies.

    Args:
        accuracies: one accuracy per seed, for two seeds or more.
    """
    mean, error = float(accuracies.mean()), float(accuracies.std(ddof=1) / len(accuracies) ** 0.5)
    half = error * float(special.stdtrit(len(accuracies) - 1, (1 + CONFIDENCE) / 2))
    return Interval(mean - half, mean + half)


def paired_delta(base: Array, variant: Array) -> Delta:
    """Return the difference of two variants on the same test images.

    The difference of each image is averaged over seeds. The images are then resampled with
    replacement (percentile bootstrap, 9,999 resamples, fixed seed). The interval covers the choice
    of test images. The spread over seeds is reported separately, as a standard deviation.

    Args:
        base: scores, seeds × images, in 0 … 1.
        variant: scores of the same seeds and images.

    Raises:
        RiftError: the shapes differ.
    """
    _refuse_other_shapes(base, variant)
    difference = 100 * (variant - base).mean(axis=0)
    return Delta(float(difference.mean()), *_bootstrap(difference))


def exact_test(base: Array, variant: Array) -> Exact:
    """Return an exact test whether two variants differ, by the images that each passes.

    McNemar's test looks at the images that only one of the two passes. It asks whether both
    directions are equally likely. With several seeds, the outcomes of an image belong together. The
    net change of an image is the number of seeds that gain it minus the number that lose it. If
    only chance distinguishes the two variants, both signs of a net change are equally likely,
    independently per image. p is the probability of a sum at least as far from zero. Such a sum
    consists of binomials, so p is computed exactly. For one seed it is McNemar's p.

    Args:
        base: outcomes, seeds × images, 0 or 1.
        variant: outcomes of the same seeds and images.

    Raises:
        RiftError: the shapes differ, or some outcome is neither 0 nor 1.
    """
    _refuse_other_shapes(base, variant)
    if not (is_binary(base) and is_binary(variant)):
        raise RiftError(
            "the exact test needs outcomes that are 0 or 1; compare means of several outcomes by"
            " the interval of their difference"
        )
    change = np.rint(variant - base).astype(np.int64)
    gained, lost = (change > 0).sum(axis=1), (change < 0).sum(axis=1)
    by_seed = tuple(mcnemar(int(up), int(down)) for up, down in zip(gained, lost, strict=True))
    joint = by_seed[0] if len(by_seed) == 1 else _sign_flip_p(change.sum(axis=0))
    return Exact(joint, by_seed, int(gained.sum()), int(lost.sum()))


def mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided exact p of McNemar's test.

    Args:
        gained: number of images that only the one variant passes.
        lost: number of images that only the other variant passes.
    """
    nearer_end = min(gained, lost)
    return float(min(1.0, 2 * special.bdtr(nearer_end, gained + lost, 0.5)))


def least_distinguishable(images: int, seeds: int, level: float) -> float:
    """Return the smallest change that the exact test can distinguish from zero, in points.

    It is the best case: a few images are gained under one seed each, and none is lost. The test
    over seeds cannot confirm less, whichever images change.

    Args:
        images: number of test images.
        seeds: number of seeds.
        level: largest p that counts as distinguishable, in (0, 1).
    """
    gained = next(count for count in itertools.count(1) if mcnemar(count, 0) <= level)
    return 100 * gained / (images * seeds)


def is_binary(scores: Array) -> bool:
    """Return whether every score is 0 or 1, as the score of a single trial is."""
    return bool(np.isin(scores, (0, 1)).all())


def _sign_flip_p(changes: Array) -> float:
    """Return the two-sided probability of a sum at least as far from 0, if all signs are random.

    The n images that change by the same amount m add m · (2 · Binomial(n, 1/2) − n) to the sum.
    """
    counts = np.bincount(np.abs(changes))
    positive = np.ones(1)  # distribution of the sum of the positive summands
    for amount, number in enumerate(counts[1:].tolist(), start=1):
        part = np.zeros(amount * number + 1)
        part[::amount] = _coin_flips(number)
        positive = np.convolve(positive, part)
    observed = int(changes[changes > 0].sum())
    nearer_end = min(observed, len(positive) - 1 - observed)
    return float(min(1.0, 2 * positive[: nearer_end + 1].sum()))


def _coin_flips(number: int) -> Array:
    """Return the probabilities of 0 … n heads among n flips of a fair coin."""
    heads = np.arange(number + 1)
    ways = special.gammaln(number + 1) - special.gammaln(heads + 1)
    ways -= special.gammaln(number - heads + 1)
    return np.asarray(np.exp(ways - number * np.log(2)))


def _bootstrap(values: Array) -> Interval:
    """Return the 95% percentile bootstrap interval of a mean.

    Each resample draws the count of every distinct value, which is multinomial. The distribution is
    the same as for drawing the values, and repeated values take a hundredth of the time.
    """
    levels, counts = np.unique(values.round(9), return_counts=True)
    rng = np.random.default_rng(0)
    means = (
        rng.multinomial(len(values), counts / len(values), size=RESAMPLES) @ levels / len(values)
    )
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(float(low), float(high))


def _refuse_other_shapes(base: Array, variant: Array) -> None:
    if base.shape != variant.shape:
        raise RiftError(
            f"outcomes of {base.shape} and {variant.shape} seeds × images cannot be paired;"
            " evaluate both variants with the same seeds on the same images"
        )
