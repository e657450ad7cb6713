"""TWINS: a loss on both wings of a network (Liu et al. 2023, section 3.2).

The first rows of a batch go through the frozen wing, and the rest through the adaptive wing. The
loss is L(adaptive) + λ·L(frozen), where L is the mean loss of a regime over the images of a wing.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rift.config import TrainingSettings
from rift.models.two_wings import frozen_parameters, frozen_wing
from rift.training.regimes import pgd
from rift.training.regimes import trades as plain_trades

Loss = Callable[[nn.Module, Tensor, Tensor, Tensor, TrainingSettings], tuple[Tensor, Tensor]]

LEAST = 2
"""Smallest number of images of the adaptive wing; batch norm cannot normalise a single value."""


def frozen_rows(images: int, share: float) -> int:
    """Return how many images of a batch go through the frozen wing.

    Args:
        images: number of images of the batch.
        share: share of the frozen wing: in [0, 1). It is rounded down.
    """
    return max(0, min(int(share * images), images - LEAST))


def at(
    model: nn.Module,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return CE(adaptive) + λ·CE(frozen) of adversarial images, and their logits (TWINS-AT).

    Args:
        model: network with two wings, in training mode.
        images: float32 in [0, 1], N×C×H×W.
        adversarial: adversarial images, likewise.
        labels: N.
        settings: λ in ``twins.frozen_weight``, ``twins.frozen_share``, and label smoothing.
    """
    return _both_wings(pgd.loss, model, images, adversarial, labels, settings)


def trades(
    model: nn.Module,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return TRADES(adaptive) + λ·TRADES(frozen) and the adversarial logits (TWINS-TRADES).

    TRADES is CE(f(x), y) + β·KL(f(x) ‖ f(x')). With ``twins.kl: published``, the KL of a wing is
    its sum over the wing divided by the images of the batch.

    Args:
        model: network with two wings, in training mode.
        images: float32 in [0, 1], N×C×H×W.
        adversarial: adversarial images, likewise.
        labels: N.
        settings: λ, share and kind of KL in ``twins``, β in ``trades.beta``, and label smoothing.
    """
    whole = len(labels)

    def wing_loss(
        model: nn.Module, clean: Tensor, attacked: Tensor, own: Tensor, settings: TrainingSettings
    ) -> tuple[Tensor, Tensor]:
        if settings.twins.kl == "published":
            beta = settings.trades.beta * len(own) / whole
            own_trades = settings.trades.model_copy(update={"beta": beta})
            settings = settings.model_copy(update={"trades": own_trades})
        return plain_trades.loss(model, clean, attacked, own, settings)

    return _both_wings(wing_loss, model, images, adversarial, labels, settings)


def _both_wings(
    loss: Loss,
    model: nn.Module,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return a loss over both wings, and the logits of the batch in its order."""
    count = frozen_rows(len(labels), settings.twins.frozen_share)
    first, rest = slice(count), slice(count, None)
    total, logits = loss(model, images[rest], adversarial[rest], labels[rest], settings)
    if count == 0:
        # Processes that train together wait for a gradient of every weight.
        unused = torch.stack([weight.sum() for weight in frozen_parameters(model)] or [total])
        return total + 0 * unused.sum(), logits
    with frozen_wing(model):
        frozen, frozen_logits = loss(
            model, images[first], adversarial[first], labels[first], settings
        )
    return total + settings.twins.frozen_weight * frozen, torch.cat([frozen_logits, logits])
