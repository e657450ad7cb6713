"""Clean fine-tuning of some modules of a network (Zhu et al. 2023, section 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.config import Augment, Finetune
from rift.data.split import Split
from rift.evaluation.accuracy import correct, percent
from rift.models.modes import snapshot
from rift.progress import Progress, silent
from rift.seeds import generator
from rift.training.epoch import train_epoch


@dataclass(frozen=True)
class Epoch:
    """A row of the fine-tuning history; accuracies in percent.

    Attributes:
        epoch: counted from 1.
        learning_rate: of this epoch.
        train_loss: mean cross-entropy on clean training images.
        train_accuracy: on them, while training.
        standard_accuracy: on the clean selection split, at the epoch's end.
        kept: whether the weights of this epoch are those kept.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    standard_accuracy: float
    kept: bool = False


@dataclass(frozen=True)
class Finetuned:
    """State dict of the best epoch, and a record of every epoch."""

    state: dict[str, Tensor]
    history: list[Epoch]


def fine_tune(
    model: nn.Module,
    modules: Sequence[str],
    data: Split,
    validation: Split,
    settings: Finetune,
    augmentation: Augment,
    seed: int,
    progress: Progress = silent,
) -> Finetuned:
    """Fine-tune some modules on clean images with cross-entropy, all other weights fixed, and keep the best epoch.

    The epoch kept is the one of best standard accuracy on the selection split, of equal ones the earlier. (The paper keeps
    the one of best test accuracy.)

    Args:
        model: fine-tuned in place.
        modules: names of modules whose parameters are trained; an empty name stands for the whole network.
        data: training split, on the device of the model.
        validation: selection split, likewise.
        settings: optimiser, schedule and what batch norm does.
        augmentation: of training images.
        seed: of data order and augmentation.
        progress: called after every batch.

    Raises:
        RiftError: the loss is no longer finite.
    """
    stream = generator(seed, "fine-tuning", data.images.device)
    model.requires_grad_(False)
    trained = [parameter for name in modules for parameter in model.get_submodule(name).parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.SGD(trained, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay)

    def loss_of(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(images)
        return F.cross_entropy(logits, labels), logits

    history: list[Epoch] = []
    state: dict[str, Tensor] = {}
    for epoch in range(1, settings.epochs + 1):
        learning_rate = settings.learning_rate * (0.1 if 2 * (epoch - 1) >= settings.epochs else 1)
        model.train(settings.batch_norm == "train")
        loss, accuracy = train_epoch(
            loss_of,
            optimizer,
            data,
            settings.batch_size,
            augmentation,
            stream,
            learning_rate,
            epoch,
            settings.epochs,
            progress,
        )
        model.eval()
        standard = percent(correct(model, validation))
        better = all(standard > row.standard_accuracy for row in history)
        if better:
            state = snapshot(model)
            history = [replace(row, kept=False) for row in history]
        history.append(Epoch(epoch, learning_rate, loss, accuracy, standard, kept=better))
        progress(epoch, settings.epochs, f"accuracy {standard:.2f}% on the selection split", loss=loss)
    return Finetuned(state, history)
