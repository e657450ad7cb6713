"""A test split in fixed blocks of consecutive images: what jobs share, and what a killed job goes on with.

Every block is attacked by itself, with random numbers of its own, so that an image fares the same however many jobs share the
blocks, and whenever one of them was interrupted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rift.errors import RiftError

Shard = tuple[int, int]
"""Number of a job, from 1, and how many there are."""

UNKNOWN = -1
"""Fate of an image that this job has not come to, or that is not its own."""


@dataclass
class Work:
    """How far a job has come; it is moved along in place.

    Attributes:
        fates: int8, N: the place, from 0, of the stage that an image fell at, the number of stages if it withstood all of them,
            or ``UNKNOWN``.
        done: how many steps are behind it.
    """

    fates: Tensor
    done: int = 0

    @classmethod
    def begin(cls, images: int, device: torch.device) -> "Work":
        return cls(torch.full((images,), UNKNOWN, dtype=torch.int8, device=device))


def forget(work: Work) -> None:
    """Keep no state."""


Keep = Callable[[Work], None]
"""Called after every step. It must be done with the work when it returns: the same tensor changes later."""


def deal(images: int, size: int, shard: Shard = (1, 1)) -> list[tuple[int, slice]]:
    """Return the blocks of a job, each with its number in the whole split: every count-th one.

    Args:
        images: of the whole split.
        size: images of a block; the last may have fewer.
        shard: which job of how many.
    """
    number, count = shard
    blocks = [(block, slice(first, min(first + size, images))) for block, first in enumerate(range(0, images, size))]
    return blocks[number - 1 :: count]


def join(parts: Sequence[Tensor]) -> Tensor:
    """Put the fates that several jobs found together.

    Raises:
        RiftError: some images are missing, or were attacked by two of them.
    """
    known = torch.stack([part != UNKNOWN for part in parts]).sum(0)
    if bool((known != 1).any()):
        missing, twice = int((known == 0).sum()), int((known > 1).sum())
        raise RiftError(f"the shards do not make a whole: {missing} images in none of them, {twice} in more than one")
    return torch.stack(list(parts)).amax(0)


def withstood(fates: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
    """Say by stage of every image whether it withstood this one and all before it: bool, N."""
    return {name: fates > place for place, name in enumerate(stages)}
