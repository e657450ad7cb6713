"""What a race knows about its modules, and its decisions by paired differences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy import special
from torch import Tensor

from rift.statistics import CONFIDENCE


@dataclass(frozen=True)
class Standing:
    """Rises of the robust loss of one module in one round, in nats per image: N.

    Attributes:
        found: rises at the point that a search found on these images. They are those that the
            point fits, so their mean is rather too large for the MRC on other images.
        before: rises at the point that the round before found on the first half of these images.
            It fits half of them, and had no part in the others. The selection of the point raises
            the mean on the one half by about as much as it lowers it on the other.
        missed: share of the rise that the search may have missed.
    """

    found: Tensor
    before: Tensor
    missed: float

    @classmethod
    def unknown(cls) -> "Standing":
        """Return the standing of a module before the first round."""
        return cls(torch.zeros(0), torch.zeros(0), 0.0)

    @property
    def mrc(self) -> float:
        """Return the largest mean rise that was found, in nats."""
        return self.found.mean().item()


def errors_for(comparisons: int) -> float:
    """Return how many standard errors a difference must have, so that all are sure at 95%.

    This is the one-sided quantile of the normal distribution with Bonferroni's correction.

    Args:
        comparisons: number of comparisons: ≥ 1.
    """
    return float(-special.ndtri((1 - CONFIDENCE) / comparisons))


def surely_above(higher: Standing, lower: Standing, errors: float) -> bool:
    """Return whether a module is surely more critical than another, by the images of both.

    Its own rises are those of the round before, without selection. Those of the other are those
    that were found, and the share that its search may have missed is added.

    Args:
        higher: standing of the module that may be more critical.
        lower: standing of the other, in the same round.
        errors: number of standard errors that the mean difference, image by image, must exceed.
    """
    if len(higher.before) < 2 or len(higher.before) != len(lower.found):
        return False
    difference = (higher.before - (1 + lower.missed) * lower.found).double()
    error = difference.std() / len(difference) ** 0.5
    return bool(difference.mean() > errors * error)


def is_settled(count: int, chosen: Sequence[int], above: Callable[[int, int], bool]) -> bool:
    """Return whether the first of some ordered modules are surely the first.

    Args:
        count: number of modules, which are numbered in their order from 0.
        chosen: numbers of first modules that are chosen: each is to be settled.
        above: whether the module of the first number surely comes after that of the second.
    """
    return all(
        above(other, first)
        for number in chosen
        for first in range(min(number, count))
        for other in range(number, count)
    )
