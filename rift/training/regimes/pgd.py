"""PGD adversarial training, PGD-AT (Madry et al. 2018, equation 2.1)."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks.ascent import Objective
from rift.config import TrainingSettings
from rift.models.requirements import as_logits


def objective(_model: nn.Module, _images: Tensor, labels: Tensor) -> Objective:
    """Return the cross-entropy of logits, summed over images."""
    return partial(F.cross_entropy, target=labels, reduction="sum")


def loss(
    model: nn.Module,
    _images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of adversarial images, and their logits.

    Args:
        model: in training mode.
        adversarial: adversarial images, float32 in [0, 1], N×C×H×W.
        labels: N.
        settings: label smoothing.
    """
    logits = as_logits(model(adversarial))
    return F.cross_entropy(logits, labels, label_smoothing=settings.train.label_smoothing), logits
