"""Selection of the checkpoint that a training keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rift.evaluation.accuracy import percent


@dataclass(frozen=True)
class Checkpoint:
    """Weights that may be kept.

    Attributes:
        rank: accuracy of the kind that decides and of the other kind, on the selection split, in
            percent.
        passed: whether each image of the selection split is classified correctly, clean or attacked
            according to the kind that decides: bool, N.
        epoch: number of the epoch that ended with these weights.
        averaged: whether these are averaged weights.
        state: state dict.
    """

    rank: list[float]
    passed: Tensor
    epoch: int
    averaged: bool
    state: dict[str, Tensor]

    @classmethod
    def restore(cls, saved: Mapping[str, Any], device: torch.device) -> "Checkpoint":
        """Return the checkpoint of a saved state, with its outcomes on a device."""
        return cls(**{**saved, "passed": saved["passed"].to(device)})


class Candidates:
    """The checkpoints that may still be kept.

    Args:
        decides: kind of accuracy that decides: 0 on clean images, 1 on attacked images.
        level: level of the paired test (McNemar's, exact, two-sided). Checkpoints with a larger p
            count as equal to the best one. With None, only the best one counts.

    Attributes:
        decides: kind of accuracy that decides.
        level: level of the paired test.
        checkpoints: the best checkpoint and those that may still be kept instead.
    """

    def __init__(self, decides: Literal[0, 1], level: float | None) -> None:
        self.decides = decides
        self.level = level
        self.checkpoints: list[Checkpoint] = []

    def consider(
        self, outcomes: Tensor, epoch: int, averaged: bool, state: dict[str, Tensor]
    ) -> None:
        """Add a checkpoint if it may be kept, and drop those that can no longer be kept.

        Args:
            outcomes: outcomes (0 or 1) on clean and attacked images of the selection split, 2×N, or
                only on clean images, 1×N.
            epoch: number of the epoch that ended with these weights.
            averaged: whether these are averaged weights.
            state: state dict; it is not copied.
        """
        other = 1 - self.decides if len(outcomes) == 2 else self.decides
        rank = [percent(outcomes[self.decides]), percent(outcomes[other])]
        if any(rank[0] <= old.rank[0] and rank[1] <= old.rank[1] for old in self.checkpoints):
            return  # an earlier checkpoint is at least as good in both kinds
        new = Checkpoint(rank, outcomes[self.decides].bool(), epoch, averaged, state)
        better = [old for old in self.checkpoints if old.rank[0] > rank[0] or old.rank[1] > rank[1]]
        best = max([*better, new], key=lambda checkpoint: checkpoint.rank)
        self.checkpoints = [
            checkpoint
            for checkpoint in (*better, new)
            if checkpoint is best or self._equal(checkpoint, best)
        ]

    @property
    def kept(self) -> Checkpoint:
        """Return the checkpoint to keep: the best in the other kind among all equal to the best."""
        return max(self.checkpoints, key=lambda checkpoint: checkpoint.rank[::-1])

    def _equal(self, checkpoint: Checkpoint, best: Checkpoint) -> bool:
        if self.level is None:
            return False
        from rift.statistics import mcnemar  # scipy takes half a second to import

        gained = int((best.passed & ~checkpoint.passed).sum())
        lost = int((checkpoint.passed & ~best.passed).sum())
        return mcnemar(gained, lost) > self.level
