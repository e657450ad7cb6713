"""MART: misclassification-aware adversarial training (Wang et al. 2020, equation 11)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.config import TrainingSettings
from rift.models.requirements import as_logits


def loss(
    model: nn.Module,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return BCE(f(x'), y) + β·mean[KL(f(x) ‖ f(x'))·(1 − p_y(x))] and the adversarial logits.

    BCE = −log p_y(x') − log(1 − max_{k≠y} p_k(x')). Label smoothing applies to its first term. No
    factor is detached from the gradient.

    Args:
        model: in training mode.
        images: float32 in [0, 1], N×C×H×W.
        adversarial: adversarial images, likewise.
        labels: N.
        settings: label smoothing, and β in ``mart.beta``.
    """
    clean, attacked = as_logits(model(images)), as_logits(model(adversarial))
    smoothing = settings.train.label_smoothing
    hit = F.cross_entropy(attacked, labels, label_smoothing=smoothing)
    own = F.one_hot(labels, attacked.shape[1]).bool()
    strongest_other = attacked.masked_fill(own, -torch.inf).argmax(1, keepdim=True)
    # log(1 − p_k) = log Σ_{j≠k} exp(z_j) − log Σ_j exp(z_j): finite where p_k rounds to 1.
    others = attacked.scatter(1, strongest_other, -torch.inf)
    margin = (attacked.logsumexp(1) - others.logsumexp(1)).mean()
    divergence = F.kl_div(
        attacked.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True
    ).sum(1)
    unsure = 1 - clean.softmax(1).gather(1, labels[:, None])[:, 0]
    return hit + margin + settings.mart.beta * (divergence * unsure).mean(), attacked
