"""TRADES (Zhang et al. 2019, equation 5)."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks.ascent import Objective
from rift.config import TrainingSettings
from rift.models.requirements import as_logits


def divergence(adversarial: Tensor, clean: Tensor) -> Tensor:
    """Return KL(f(x) ‖ f(x')) of predicted probabilities, summed over images.

    Args:
        adversarial: logits of adversarial images, N×classes.
        clean: logits of clean images, N×classes.
    """
    return F.kl_div(
        adversarial.log_softmax(1), clean.log_softmax(1), reduction="sum", log_target=True
    )


def objective(model: nn.Module, images: Tensor, _labels: Tensor) -> Objective:
    """Return the divergence from the predictions for clean images, as a function of logits."""
    return partial(divergence, clean=as_logits(model(images)).detach())


def loss(
    model: nn.Module,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return CE(f(x), y) + β·KL(f(x) ‖ f(x')) and the adversarial logits.

    Neither prediction is detached from the gradient.

    Args:
        model: in training mode.
        images: float32 in [0, 1], N×C×H×W.
        adversarial: adversarial images, likewise.
        labels: N.
        settings: label smoothing, and β in ``trades.beta``.
    """
    # Two passes, as published: batch norm normalises clean and adversarial images separately.
    clean, attacked = as_logits(model(images)), as_logits(model(adversarial))
    natural = F.cross_entropy(clean, labels, label_smoothing=settings.train.label_smoothing)
    return natural + settings.trades.beta * divergence(attacked, clean) / len(labels), attacked
