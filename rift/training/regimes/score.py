"""SCORE: TRADES with a distance in place of the divergence (Pang et al. 2022, section 4)."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks.ascent import Objective
from rift.config import TrainingSettings
from rift.device import to_float32


def distance(adversarial: Tensor, clean: Tensor) -> Tensor:
    """Return the squared Euclidean distance between predicted probabilities, summed over images.

    Args:
        adversarial: logits of adversarial images, N×classes.
        clean: logits of clean images, N×classes.
    """
    return (adversarial.softmax(1) - clean.softmax(1)).square().sum()


def objective(model: nn.Module, images: Tensor, _labels: Tensor) -> Objective:
    """Return the distance from the predictions for clean images, as a function of logits."""
    return partial(distance, clean=to_float32(model(images)).detach())


def loss(
    model: nn.Module,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return CE(f(x), y) + β·‖f(x) − f(x')‖² and the adversarial logits.

    Neither prediction is detached from the gradient.

    Args:
        model: in training mode.
        images: float32 in [0, 1], N×C×H×W.
        adversarial: adversarial images, likewise.
        labels: N.
        settings: label smoothing, and β in ``score.beta``.
    """
    clean, attacked = to_float32(model(images)), to_float32(model(adversarial))
    natural = F.cross_entropy(clean, labels, label_smoothing=settings.train.label_smoothing)
    return natural + settings.score.beta * distance(attacked, clean) / len(labels), attacked
