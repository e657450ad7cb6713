"""A test split in fixed blocks of consecutive images, which jobs share and an interrupted job goes on with.

Every block is attacked separately, with its own random numbers. An image therefore fares the same however many
jobs share the blocks, and whenever one of them was interrupted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rift.errors import RiftError

Shard = tuple[int, int]
"""Number of a job, from 1, and how many there are."""

UNKNOWN = -1
"""Stage of an image that no attack has reached yet, or that belongs to another job."""


@dataclass
class AttackProgress:
    """How far a job has come; it is changed in place.

    Attributes:
        stage_broken_at: int8, N: number, from 0, of the stage that broke an image; the number of
            stages if it survived all of them; or ``UNKNOWN``.
        done: how many steps are finished.
    """

    stage_broken_at: Tensor
    done: int = 0

    @classmethod
    def begin(cls, images: int, device: torch.device) -> "AttackProgress":
        """Return the progress of a job that has done nothing yet."""
        return cls(torch.full((images,), UNKNOWN, dtype=torch.int8, device=device))


Keep = Callable[[AttackProgress], None]
"""Called after every step. It must copy or write the progress before it returns: the tensor changes later."""


def keep_nothing(progress: AttackProgress) -> None:
    """Keep no state."""


@dataclass(frozen=True)
class Share:
    """Which blocks a job attacks, and how it goes on after an interruption.

    Attributes:
        shard: the job's number, and how many share the blocks.
        before: progress that an earlier process kept with the same arguments; None begins.
        keep: called after every step.
    """

    shard: Shard = (1, 1)
    before: AttackProgress | None = None
    keep: Keep = keep_nothing

    def progress(self, images: int, device: torch.device) -> AttackProgress:
        """Return the progress to go on from."""
        return self.before or AttackProgress.begin(images, device)


ALL = Share()
"""All blocks, without a state."""


def blocks_of_shard(images: int, size: int, shard: Shard = (1, 1)) -> list[tuple[int, slice]]:
    """Return the blocks of a job with their numbers in the whole split: every ``count``-th one.

    Args:
        images: of the whole split.
        size: images of a block; the last may have fewer.
        shard: which job of how many.
    """
    number, count = shard
    starts = enumerate(range(0, images, size))
    blocks = [(block, slice(first, min(first + size, images))) for block, first in starts]
    return blocks[number - 1 :: count]


def join(parts: Sequence[Tensor]) -> Tensor:
    """Merge the stages that several jobs found.

    Raises:
        RiftError: some images are missing, or were attacked by two jobs.
    """
    known = torch.stack([part != UNKNOWN for part in parts]).sum(0)
    if bool((known != 1).any()):
        missing, twice = int((known == 0).sum()), int((known > 1).sum())
        raise RiftError(
            f"the shards are not one whole: {missing} images are in none of them, {twice} in more"
            " than one"
        )
    return torch.stack(list(parts)).amax(0)


def survived(stage_broken_at: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
    """Return for every stage whether each image survived it and all stages before it: bool, N."""
    return {name: stage_broken_at > place for place, name in enumerate(stages)}
