"""Standard training, without an attack."""

from torch import Tensor, nn
from torch.nn import functional as F

from rift.config import TrainingSettings
from rift.models.requirements import as_logits


def loss(
    model: nn.Module,
    images: Tensor,
    _adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of clean images, and their logits.

    Args:
        model: in training mode.
        images: float32 in [0, 1], N×C×H×W.
        labels: N.
        settings: label smoothing.
    """
    logits = as_logits(model(images))
    return F.cross_entropy(logits, labels, label_smoothing=settings.train.label_smoothing), logits
