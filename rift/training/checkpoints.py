"""Which checkpoint of a training is kept."""

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
        rank: the accuracy that decides, and the other kind, in percent of the selection split.
        passed: whether each image of the selection split is classified correctly, by the kind of
            accuracy that decides: bool, N.
        epoch: at whose end the weights were taken.
        averaged: whether they are averaged ones.
        state: the weights.
    """

    rank: list[float]
    passed: Tensor
    epoch: int
    averaged: bool
    state: dict[str, Tensor]

    @classmethod
    def restore(cls, saved: Mapping[str, Any], device: torch.device) -> "Checkpoint":
        """Return a checkpoint of a saved state, its outcomes on a device."""
        return cls(**{**saved, "passed": saved["passed"].to(device)})


class Candidates:
    """The checkpoints that may still be kept.

    Args:
        decides: place of the outcomes that decide: 0 for clean, 1 for attacked images.
        level: of the paired test (McNemar, exact, two-sided) that makes checkpoints equal to the
            best one; None: only the best one counts.
    """

    def __init__(self, decides: Literal[0, 1], level: float | None) -> None:
        self.decides = decides
        self.level = level
        self.checkpoints: list[Checkpoint] = []

    def consider(
        self, outcomes: Tensor, epoch: int, averaged: bool, state: dict[str, Tensor]
    ) -> None:
        """Take weights in, and drop those that can no longer be kept.

        Args:
            outcomes: on clean and on attacked images of the selection split, 2×N, or only on clean
                ones, 1×N; 0 or 1.
            epoch: at whose end the weights were taken.
            averaged: whether they are averaged ones.
            state: the weights; they are not copied.
        """
        other = 1 - self.decides if len(outcomes) == 2 else self.decides
        rank = [percent(outcomes[self.decides]), percent(outcomes[other])]
        if any(rank[0] <= old.rank[0] and rank[1] <= old.rank[1] for old in self.checkpoints):
            return  # no better in either
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
        """Return the most accurate of the checkpoints that are as good as the best."""
        return max(self.checkpoints, key=lambda checkpoint: checkpoint.rank[::-1])

    def _equal(self, checkpoint: Checkpoint, best: Checkpoint) -> bool:
        if self.level is None:
            return False
        from rift.statistics import mcnemar  # scipy takes half a second to import

        gained = int((best.passed & ~checkpoint.passed).sum())
        lost = int((checkpoint.passed & ~best.passed).sum())
        return mcnemar(gained, lost) > self.level
