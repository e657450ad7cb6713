"""Training of a base: one loop for all regimes.

A regime is one function that returns the loss of a batch. Add yours to ``REGIMES`` and its name to
``rift.config.RegimeName``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rift.config import Attack, RegimeName
from rift.training.pgd import pgd
from rift.training.standard import standard


@dataclass(frozen=True)
class Regime:
    """How a base is trained.

    Attributes:
        loss: function of (model, images, labels, attack, generator), images float32 in [0, 1]; returns the loss of the batch
            and the logits it was computed from.
        kept_by: kind of accuracy that decides which epoch is kept.
    """

    loss: Callable[[nn.Module, Tensor, Tensor, Attack, torch.Generator], tuple[Tensor, Tensor]]
    kept_by: Literal["adversarial", "standard"] = "adversarial"


REGIMES: dict[RegimeName, Regime] = {
    "standard": Regime(standard, kept_by="standard"),
    "pgd": Regime(pgd),
}
