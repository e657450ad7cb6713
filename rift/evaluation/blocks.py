"""Fixed blocks of consecutive test images, for several jobs and for interrupted jobs.

Every block is attacked separately, with its own random numbers. The result of an image therefore
depends neither on the number of jobs nor on interruptions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rift.evaluation.stages import UNKNOWN

Shard = tuple[int, int]
"""Number of a job, from 1, and number of jobs."""


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
