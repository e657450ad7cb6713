"""How sure a number is. The formulas, and why these: docs/statistics.md."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rift.errors import RiftError

Array = NDArray[Any]

RESAMPLES = 9999
CONFIDENCE = 0.95
ERRORS = float(stats.norm.ppf((1 + CONFIDENCE) / 2))  # standard errors to either side of a mean


class Interval(NamedTuple):
    """Where a number lies at 95% confidence, in percent or percentage points."""

    low: float
    high: float


class Accuracy(NamedTuple):
    """Mean over seeds in percent, and how sure it is.

    Attributes:
        mean: over seeds and images.
        sd: standard deviation over seeds (n − 1); NaN for a single seed.
        low: lower end of the 95% interval over images of a single seed; NaN for several.
        high: its upper end.
        seeds: how many.
        images: how many, of each seed.
    """

    mean: float
    sd: float
    low: float
    high: float
    seeds: int
    images: int


class Delta(NamedTuple):
    """A difference of accuracies in percentage points with its 95% interval."""

    mean: float
    low: float
    high: float

    @property
    def leaves_out_zero(self) -> bool:
        return self.low > 0 or self.high < 0


class Exact(NamedTuple):
    """An exact test of whether two variants differ on the same images.

    Attributes:
        p: two-sided, of all seeds together; of one seed it is McNemar's.
        by_seed: McNemar's exact p of every seed alone.
        gained: pairs, an image and a seed each, that only the variant passes.
        lost: pairs that only the base passes.
    """

    p: float
    by_seed: tuple[float, ...]
    gained: int
    lost: int


def accuracy(scores: Array) -> Accuracy:
    """Summarise scores, seeds × images, in 0 … 1.

    The interval of a single seed is Wilson's where every score is 0 or 1, else a percentile bootstrap over images.
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
        wilson(int(scores.sum()), scores.size)
        if is_yes_or_no(scores)
        else _bootstrap(100 * scores[0])
    )
    return Accuracy(float(by_seed.mean()), float("nan"), *around, *scores.shape)


def wilson(passed: int, images: int) -> Interval:
    """95% interval (Wilson) of an accuracy in percent, for so many of so many images."""
    found = stats.binomtest(passed, images).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(100 * float(found.low), 100 * float(found.high))


def over_seeds(accuracies: Array) -> Interval:
    """95% interval (Student's t) of the mean over two seeds or more, in the unit of what is given."""
    mean, error = float(accuracies.mean()), float(accuracies.std(ddof=1) / len(accuracies) ** 0.5)
    half = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(accuracies) - 1))
    return Interval(mean - half, mean + half)


def paired_delta(base: Array, variant: Array) -> Delta:
    """Compare two variants on the same test images.

    The difference of an image is averaged over seeds; the images are then resampled with replacement (percentile bootstrap,
    9,999 resamples, fixed seed). The interval says what other test images of the same kind might have given; how much other
    seeds might have is the standard deviation's to say.

    Args:
        base: scores, seeds × images, in 0 … 1.
        variant: scores of the same seeds and images.

    Raises:
        RiftError: they are not of equally many seeds and images.
    """
    _refuse_other_shapes(base, variant)
    difference = 100 * (variant - base).mean(axis=0)
    return Delta(float(difference.mean()), *_bootstrap(difference))


def exact_test(base: Array, variant: Array) -> Exact:
    """Test exactly whether two variants differ, over images that each passes or not.

    McNemar's test asks of the images that only one of the two passes whether that is as often the one as the other. With
    several seeds the outcomes of an image belong together: under the hypothesis that nothing but chance tells base from
    variant, the net change of an image (how many seeds gain it, less how many lose it) is as likely to have the other sign,
    independently of other images. The probability of a sum as far from zero is that of sums of binomials, which is computed
    exactly; of one seed it is McNemar's.

    Args:
        base: outcomes, seeds × images, 0 or 1.
        variant: outcomes of the same seeds and images.

    Raises:
        RiftError: they are not of equally many seeds and images, or not all 0 or 1.
    """
    _refuse_other_shapes(base, variant)
    if not (is_yes_or_no(base) and is_yes_or_no(variant)):
        raise RiftError(
            "McNemar's test is of outcomes that are yes or no; a mean of several is compared by its interval"
        )
    change = np.rint(variant - base).astype(np.int64)
    gained, lost = (change > 0).sum(axis=1), (change < 0).sum(axis=1)
    by_seed = tuple(mcnemar(int(up), int(down)) for up, down in zip(gained, lost, strict=True))
    joint = by_seed[0] if len(by_seed) == 1 else _of_random_signs(change.sum(axis=0))
    return Exact(joint, by_seed, int(gained.sum()), int(lost.sum()))


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test, from how many images only the one and only the other passes."""
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def is_yes_or_no(scores: Array) -> bool:
    """Say whether every score is of one trial: 0 or 1."""
    return bool(np.isin(scores, (0, 1)).all())


def _of_random_signs(changes: Array) -> float:
    """Two-sided probability of a sum at least as far from 0 as this one, were the sign of every summand a coin's.

    Images that change by the same amount m, say n of them, add m · (2 · Binomial(n, 1/2) − n) to the sum.
    """
    counts = np.bincount(np.abs(changes))
    positive = np.ones(1)  # of the sum of all summands that are positive
    for amount, number in enumerate(counts[1:].tolist(), start=1):
        part = np.zeros(amount * number + 1)
        part[::amount] = stats.binom.pmf(np.arange(number + 1), number, 0.5)
        positive = np.convolve(positive, part)
    found = int(changes[changes > 0].sum())
    nearer_end = min(found, len(positive) - 1 - found)
    return float(min(1.0, 2 * positive[: nearer_end + 1].sum()))


def _bootstrap(values: Array) -> Interval:
    """95% percentile bootstrap of a mean.

    How often each distinct value is drawn is multinomial, so that the counts are drawn and not the values: the same
    distribution, for a hundredth of the time where values repeat.
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
            f"outcomes of {base.shape} and {variant.shape} seeds × images cannot be compared in pairs"
        )
