"""Continued training on attacked and on clean images (scope ``mixed-training``).

Half of the way to such weights, a network can be more accurate and still as robust as the base,
where clean images alone soon cost robustness. Mixed losses are as old as adversarial training
(Goodfellow et al. 2015, section 6).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from rift.config import TrainingSettings
from rift.criticality.scopes.more_training import continued
from rift.finetuning import Tuning
from rift.models.requirements import as_logits
from rift.training.history import Trained
from rift.training.regimes import Regime


def continue_on_both(
    model: nn.Module, parameters: Sequence[nn.Parameter], tuning: Tuning
) -> Trained:
    """Continue the base's training with a share of clean images in the loss.

    As for fine-tuning, the epoch that is most accurate on clean images is kept: the sweep returns
    to the robustness of the base.

    Args:
        model: base, trained in place.
        parameters: parameters of the model that are trained.
        tuning: images, settings, and the regime or method of the base; the sections of training or
            transfer apply, and ``mixed``.

    Raises:
        RiftError: the network cannot be used, or the loss is no longer finite.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    own = tuning.settings.mixed
    change = partial(_with_clean_images, share=own.clean_share)
    return continued(model, parameters, tuning, own, change)


def _with_clean_images(regime: Regime, share: float) -> Regime:
    """Return a regime with the loss (1 − s)·L(x', y) + s·CE(f(x), y).

    Args:
        regime: gives L, the inner attack, and the logits from which accuracy is computed.
        share: s.
    """

    def loss(
        model: nn.Module,
        images: Tensor,
        adversarial: Tensor,
        labels: Tensor,
        settings: TrainingSettings,
    ) -> tuple[Tensor, Tensor]:
        attacked, logits = regime.loss(model, images, adversarial, labels, settings)
        smoothing = settings.train.label_smoothing
        clean = F.cross_entropy(as_logits(model(images)), labels, label_smoothing=smoothing)
        return (1 - share) * attacked + share * clean, logits

    return replace(regime, loss=loss, kept_by="standard")
