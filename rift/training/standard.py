"""Standard training, without an attack."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.config import Attack


def standard(
    model: nn.Module, images: Tensor, labels: Tensor, _attack: Attack, _generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of clean images and their logits."""
    logits = model(images)
    return F.cross_entropy(logits, labels), logits
