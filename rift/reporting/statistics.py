"""How sure a number is."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from rift.artifacts import Array
from rift.errors import RiftError

RESAMPLES = 9999


class Accuracy(NamedTuple):
    """Mean and standard deviation over seeds, in percent; the deviation is NaN for a single seed."""

    mean: float
    sd: float
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


def accuracy(scores: Array) -> Accuracy:
    """Summarise scores, seeds × images, in 0 … 1."""
    by_seed = 100 * scores.mean(axis=1)
    sd = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else float("nan")
    return Accuracy(float(by_seed.mean()), sd, *scores.shape)


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
    if base.shape != variant.shape:
        raise RiftError(f"outcomes of {base.shape} and {variant.shape} seeds × images cannot be compared in pairs")
    difference = 100 * (variant - base).mean(axis=0)
    result = stats.bootstrap(
        (difference,), np.mean, n_resamples=RESAMPLES, batch=500, method="percentile", rng=np.random.default_rng(0)
    )
    low, high = result.confidence_interval
    return Delta(float(difference.mean()), float(low), float(high))
