"""TRADES (Zhang et al. 2019, equation 5)."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks.ascent import Objective
from rift.config import TrainingSettings
from rift.device import to_float32


def divergence(adversarial: Tensor, clean: Tensor) -> Tensor:
    """Return KL(f(x) ‖ f(x')) of logits, summed over images."""
    return F.kl_div(
        adversarial.log_softmax(1), clean.log_softmax(1), reduction="sum", log_target=True
    )


def objective(model: nn.Module, images: Tensor, _labels: Tensor) -> Objective:
    """Raise the divergence from the predictions for clean images."""
    return partial(divergence, clean=to_float32(model(images)).detach())


def loss(
    model: nn.Module,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return CE(f(x), y) + β·KL(f(x) ‖ f(x')), both sides differentiated, and the adversarial logits."""
    # One after the other, as published: batch norm sees clean and adversarial images apart.
    clean, attacked = to_float32(model(images)), to_float32(model(adversarial))
    natural = F.cross_entropy(clean, labels, label_smoothing=settings.train.label_smoothing)
    return natural + settings.trades.beta * divergence(attacked, clean) / len(labels), attacked
