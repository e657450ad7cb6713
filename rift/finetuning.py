"""Fine-tuning of some modules of a network on clean images (Zhu et al. 2023, section 4.2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from rift.artifacts.resume import Work
from rift.config import (
    Augment,
    Finetune,
    MethodName,
    RegimeName,
    RunSettings,
    Train,
    TrainingSettings,
)
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.modes import inference, restored, trainable
from rift.models.requirements import as_logits, unwrapped
from rift.progress import Progress, no_progress
from rift.thirdparty import group_norms_in_order
from rift.training.history import Trained
from rift.training.measuring import measure_clean
from rift.training.regimes import REGIMES
from rift.training.trainer import Job, Trainer

STEEPNESS_IMAGES = 1000
"""Largest number of images for ``clean_gradient``."""


@dataclass(frozen=True)
class Tuning:
    """Images, settings and surroundings of the training of a scope.

    Attributes:
        data: training images, on the device of the model.
        validation: selection split, likewise.
        settings: settings of the run; a scope reads the sections that it needs.
        regime: regime that trained the base.
        method: method of the transfer that made the base; None if a regime trained it.
        seed: seed of data order, augmentation and attacks.
        work: source of the state of an interrupted run, and target of this run's states.
        after_epoch: called with the result so far after every epoch.
        progress: called after every step.
    """

    data: Images
    validation: Images
    settings: RunSettings
    regime: RegimeName = "pgd"
    method: MethodName | None = None
    seed: int = 0
    work: Work = field(default_factory=Work)
    after_epoch: Callable[[Trained], None] = lambda trained: None
    progress: Progress = no_progress


def fine_tune(
    model: nn.Module,
    data: Images,
    validation: Images,
    modules: Sequence[str],
    *,
    settings: Finetune,
    augmentation: Augment,
    seed: int,
    work: Work | None = None,
    after_epoch: Callable[[Trained], None] = lambda trained: None,
    progress: Progress = no_progress,
) -> Trained:
    """Fine-tune some modules on clean images with cross-entropy, and return the best epoch.

    All other weights are fixed. The kept epoch has the best standard accuracy on the selection
    split. Ties go to the earlier epoch. (The paper keeps the epoch of best test accuracy.)

    Args:
        model: base; it is restored, and the result contains the fine-tuned weights.
        data: training images, on the device of the model.
        validation: selection split, likewise.
        modules: names of the modules whose parameters are trained; an empty name is the whole
            network.
        settings: optimiser, schedule, and mode of batch norm.
        augmentation: augmentation of the training images.
        seed: seed of data order and augmentation.
        work: source of the state of an interrupted run, and target of this run's states.
        after_epoch: called with the result so far after every epoch.
        progress: called after every step.

    Raises:
        RiftError: the network cannot be used, has no module of a name, or the loss is no longer
            finite.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    model = unwrapped(model)
    tuning = Tuning(
        data,
        validation,
        RunSettings(finetune=settings, augment=augmentation),
        seed=seed,
        work=work or Work(),
        after_epoch=after_epoch,
        progress=progress,
    )
    parameters = parameters_of(model, modules)
    with restored(model):
        return on_clean_images(model, parameters, tuning)


def on_clean_images(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    tuning: Tuning,
    batch_norm: Literal["train", "frozen"] | None = None,
) -> Trained:
    """Train some parameters on clean images with cross-entropy, and return the best epoch.

    Args:
        model: base, trained in place.
        parameters: parameters of the model that are trained.
        tuning: images and settings; the sections ``finetune`` and ``augment`` apply.
        batch_norm: whether running statistics move; None follows ``finetune.batch_norm``.

    Raises:
        RiftError: the network cannot be used, or the loss is no longer finite.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    settings = tuning.settings.finetune
    job = Job(
        REGIMES["standard"],
        _as_training(settings, tuning.settings.augment),
        purpose="fine-tuning",
        parameters=parameters,
        measure=measure_clean,
        moves_statistics=(batch_norm or settings.batch_norm) == "train",
    )
    with trainable(model, parameters), group_norms_in_order(model):
        trainer = Trainer(model, tuning.data, tuning.validation, job, seed=tuning.seed)
        return trainer.run(tuning.work, tuning.after_epoch, tuning.progress)


def clean_gradient(model: nn.Module, modules: Sequence[str], data: Images) -> float:
    """Return how steep the clean loss is in some modules: the norm of its gradient, in nats.

    The loss is the mean cross-entropy of at most ``STEEPNESS_IMAGES`` images, in eval mode.

    Args:
        model: base; it is restored.
        modules: names of the modules; an empty name is the whole network.
        data: training images, on the device of the model.

    Raises:
        RiftError: the network has no module of a name, or the modules have no parameters.
    """
    model = unwrapped(model)
    parameters = parameters_of(model, modules)
    images = data.up_to(STEEPNESS_IMAGES)
    total = [torch.zeros_like(parameter) for parameter in parameters]
    with inference(model), trainable(model, parameters), group_norms_in_order(model):
        for batch in images.batches():
            logits = as_logits(model(batch.floats()))
            loss = F.cross_entropy(logits, batch.labels.long(), reduction="sum") / len(images)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for place, gradient in enumerate(gradients):
                if gradient is not None:
                    total[place] += gradient
    return float(sum(part.double().square().sum() for part in total) ** 0.5)


def halfway(epochs: int) -> tuple[int]:
    """Return the milestone halfway through fine-tuning, or before the middle epoch."""
    return (max(1, epochs // 2),)


def parameters_of(model: nn.Module, modules: Sequence[str]) -> list[nn.Parameter]:
    """Return the parameters of some modules, each once.

    Modules may share a weight. The optimiser must not move it twice per step.

    Raises:
        RiftError: the network has no module of a name, or the modules have no parameters.
    """
    known = dict(model.named_modules())
    found: dict[nn.Parameter, None] = {}
    for name in modules:
        if name not in known:
            raise RiftError(f"module {name}: the network has no such module; choose another one")
        module = known[name]
        # The output projection within torch's attention is a measured module of its own.
        outside = "out_proj." if isinstance(module, nn.MultiheadAttention) else None
        for own, parameter in module.named_parameters():
            if outside is None or not own.startswith(outside):
                found[parameter] = None
    if not found:
        raise RiftError(f"modules {', '.join(modules)}: have no parameters to fine-tune")
    return list(found)


def _as_training(settings: Finetune, augmentation: Augment) -> TrainingSettings:
    """Return the settings of fine-tuning as settings of the trainer."""
    train = Train(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule="step",
        milestones=halfway(settings.epochs),
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        precision=settings.precision,
        compile="never",
    )
    return TrainingSettings(train=train, augment=augmentation)
