"""Fixed blocks of consecutive test images, for several jobs and for interrupted jobs.

Every block is attacked separately, with its own random numbers. The result of an image therefore
depends neither on the number of jobs nor on interruptions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rift.errors import RiftError

Shard = tuple[int, int]
"""Number of a job, from 1, and number of jobs."""

UNKNOWN = -1
"""Stage of an image that has not been attacked yet, or that belongs to another job."""


@dataclass
class AttackProgress:
    """The progress of a job, changed in place.

    Attributes:
        stage_broken_at: number, from 0, of the stage that broke each image; the number of stages if
            the image survived all of them; or ``UNKNOWN``: int8, N.
        done: number of finished steps.
    """

    stage_broken_at: Tensor
    done: int = 0

    @classmethod
    def begin(cls, images: int, device: torch.device) -> "AttackProgress":
        """Return the progress of a job that has not started.

        Args:
            images: number of images of the whole split.
            device: device of the images.
        """
        return cls(torch.full((images,), UNKNOWN, dtype=torch.int8, device=device))


Keep = Callable[[AttackProgress], None]
"""Function that is called after every step.

It must copy or write the progress before it returns, because the tensor changes later.
"""


def keep_nothing(progress: AttackProgress) -> None:
    """Ignore the progress."""


@dataclass(frozen=True)
class Share:
    """The blocks of a job, and its state.

    Attributes:
        shard: number of the job, from 1, and number of jobs.
        before: progress that an earlier process kept with the same arguments; None starts from the
            beginning.
        keep: called after every step.
    """

    shard: Shard = (1, 1)
    before: AttackProgress | None = None
    keep: Keep = keep_nothing

    def progress(self, images: int, device: torch.device) -> AttackProgress:
        """Return the progress from which to continue.

        Args:
            images: number of images of the whole split.
            device: device of the images.
        """
        return self.before or AttackProgress.begin(images, device)


ALL = Share()
"""All blocks in one job, without a state."""


def blocks_of_shard(images: int, size: int, shard: Shard = (1, 1)) -> list[tuple[int, slice]]:
    """Return the blocks of a job, every ``count``-th one, with their numbers in the whole split.

    Args:
        images: number of images of the whole split.
        size: images per block; the last block may have fewer.
        shard: number of the job, from 1, and number of jobs.
    """
    number, count = shard
    starts = enumerate(range(0, images, size))
    blocks = [(block, slice(first, min(first + size, images))) for block, first in starts]
    return blocks[number - 1 :: count]


def join(parts: Sequence[Tensor]) -> Tensor:
    """Merge the results of several jobs.

    Args:
        parts: stages that broke the images, per job: int8, N.

    Returns:
        The stages that broke the images: int8, N.

    Raises:
        RiftError: an image is missing, or two jobs attacked it.
    """
    known = torch.stack([part != UNKNOWN for part in parts]).sum(0)
    if bool((known != 1).any()):
        missing, twice = int((known == 0).sum()), int((known > 1).sum())
        raise RiftError(
            f"the shards are not complete: {missing} images are in no shard, {twice} in more than"
            " one; pass each shard once"
        )
    return torch.stack(list(parts)).amax(0)


def survived(stage_broken_at: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
    """Return whether each image survived a stage and all stages before it, by stage: bool, N.

    Args:
        stage_broken_at: number of the stage that broke each image: int8, N.
        stages: names of the stages in their order.
    """
    return {name: stage_broken_at > place for place, name in enumerate(stages)}
