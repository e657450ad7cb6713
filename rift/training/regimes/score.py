"""SCORE: squared distances of probabilities in both terms (Pang et al. 2022, section 4)."""

from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks.ascent import Objective
from rift.config import TrainingSettings
from rift.models.requirements import as_logits


def distance(adversarial: Tensor, clean: Tensor) -> Tensor:
    """Return the squared Euclidean distances between predicted probabilities, per image: N.

    Args:
        adversarial: logits of adversarial images, N×classes.
        clean: logits of clean images, N×classes.
    """
    return (adversarial.softmax(1) - clean.softmax(1)).square().sum(1)


def objective(model: nn.Module, images: Tensor, _labels: Tensor) -> Objective:
    """Return the distance from the predictions for clean images, as a function of logits."""
    clean = as_logits(model(images)).detach()
    return lambda logits: distance(logits, clean).sum()


def loss(
    model: nn.Module,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return mean[max(0, ‖p(x) − y‖² + β·‖p(x') − p(x)‖² − clip)] and the adversarial logits.

    p are predicted probabilities, and y is the one-hot label. Neither prediction is detached from
    the gradient.

    Args:
        model: in training mode.
        images: float32 in [0, 1], N×C×H×W.
        adversarial: adversarial images, likewise.
        labels: N.
        settings: label smoothing of y, β in ``score.beta``, and ``score.clip``.
    """
    clean, attacked = as_logits(model(images)), as_logits(model(adversarial))
    classes, smoothing = clean.shape[1], settings.train.label_smoothing
    targets = F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
    natural = (clean.softmax(1) - targets).square().sum(1)
    losses = natural + settings.score.beta * distance(attacked, clean)
    return F.relu(losses - settings.score.clip).mean(), attacked
