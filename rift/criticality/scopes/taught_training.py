"""Continued training with the labels of a teacher (scope ``taught-training``).

The teacher is the base, fine-tuned on clean images: accurate and not robust. A share of each label
is its probabilities on the clean image, as in adversarially robust distillation (Goldblum et al.
2020), whose teacher is robust.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks.ascent import Objective
from rift.config import Taught, TrainingSettings
from rift.criticality.scopes.more_training import continued
from rift.errors import RiftError
from rift.finetuning import Tuning
from rift.models.folding import folded
from rift.models.modes import inference
from rift.models.requirements import as_logits
from rift.training.history import Trained
from rift.training.regimes import Regime


def continue_with_teacher(
    model: nn.Module, parameters: Sequence[nn.Parameter], tuning: Tuning
) -> Trained:
    """Train on attacked and on clean images whose labels are partly those of the teacher.

    Whatever trained the base, the loss is (1 − s)·CE(f(x'), q) + s·CE(f(x), q) with the labels
    q = (1 − t)·y + t·p(x), where y is the class, p the teacher's probabilities, s the
    ``clean_share`` and t the ``teacher_share``. The inner attack raises CE(f(x'), q). As for
    fine-tuning, the epoch that is most accurate on clean images is kept.

    Args:
        model: base, trained in place.
        parameters: parameters of the model that are trained.
        tuning: images, settings, teacher, and the regime or method of the base, whose optimiser
            applies; the sections of training or transfer apply, and ``taught``.

    Raises:
        RiftError: there is no teacher, a network cannot be used, or the loss is no longer finite.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    own, teacher = tuning.settings.taught, tuning.teacher
    if teacher is None:
        raise RiftError(
            "scope taught-training: there is no teacher; pass the weights of all-layers with"
            " --teacher"
        )
    with inference(teacher):
        return continued(model, parameters, tuning, own, lambda _: _taught(teacher, own))


def _taught(teacher: nn.Module, own: Taught) -> Regime:
    """Return the regime with the labels of a teacher."""

    def labels_of(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad(), folded(teacher, images):
            logits = as_logits(teacher(images))
        classes = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return classes.lerp(logits.softmax(1), own.teacher_share)

    def objective(_model: nn.Module, images: Tensor, labels: Tensor) -> Objective:
        return partial(F.cross_entropy, target=labels_of(images, labels), reduction="sum")

    def loss(
        model: nn.Module,
        images: Tensor,
        adversarial: Tensor,
        labels: Tensor,
        settings: TrainingSettings,
    ) -> tuple[Tensor, Tensor]:
        target, smoothing = labels_of(images, labels), settings.train.label_smoothing
        logits = as_logits(model(adversarial))
        attacked = F.cross_entropy(logits, target, label_smoothing=smoothing)
        clean = F.cross_entropy(as_logits(model(images)), target, label_smoothing=smoothing)
        return (1 - own.clean_share) * attacked + own.clean_share * clean, logits

    return Regime(loss, objective, kept_by="standard")
