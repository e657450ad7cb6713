"""PGD adversarial training, PGD-AT (Madry et al. 2018)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift import attacks
from rift.config import Attack


def pgd(
    model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of adversarial images and their logits."""
    adversarial = attacks.pgd(model, images, labels, **attack.model_dump(), generator=generator)
    logits = model(adversarial)
    return F.cross_entropy(logits, labels), logits
