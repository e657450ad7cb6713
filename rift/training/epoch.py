"""One pass of gradient steps over a split: what training and fine-tuning have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rift.config import Augment, Precision
from rift.data.augmentation import augment
from rift.data.split import Split, shuffled, to_float
from rift.errors import RiftError
from rift.progress import Progress

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Epoch:
    """A row of a history; accuracies in percent.

    Attributes:
        epoch: counted from 1.
        learning_rate: of this epoch.
        train_loss: mean of the loss that was trained on.
        train_accuracy: on the images as they were trained on (attacked ones, if the regime attacks), while training.
        standard_accuracy: on the clean selection split, at the epoch's end.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    standard_accuracy: float


@dataclass(frozen=True)
class Trained:
    """What training or fine-tuning ends with.

    Attributes:
        state: state dict of the epoch kept.
        history: a record of every epoch.
        kept: number of the epoch kept.
    """

    state: dict[str, Tensor]
    history: Sequence[Epoch]
    kept: int


def train_epoch(
    loss_of: Loss,
    optimizer: torch.optim.Optimizer,
    data: Split,
    batch_size: int,
    augmentation: Augment,
    generator: torch.Generator,
    learning_rate: float,
    epoch: int,
    epochs: int,
    progress: Progress,
) -> tuple[float, float]:
    """Go through a split once in random order.

    Args:
        loss_of: function of images (float32 in [0, 1]) and labels that returns the batch's mean loss and the logits.
        optimizer: of the weights that are trained.
        data: split that is gone through, on the device of ``generator``.
        batch_size: images a step.
        augmentation: of every batch.
        generator: of order and augmentation.
        learning_rate: of this pass.
        epoch: number of this pass, from 1, and ``epochs`` how many there are: for progress and messages.
        epochs: see ``epoch``.
        progress: called after every batch.

    Returns:
        Mean loss, and accuracy in percent on the images that the loss was computed from.

    Raises:
        RiftError: the loss is no longer finite.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    loss_sum, hits = (torch.zeros((), device=data.images.device) for _ in range(2))
    batches = shuffled(len(data.labels), batch_size, generator)
    seen = 0
    for number, batch in enumerate(batches, start=1):
        images, labels = to_float(augment(data.images[batch], augmentation, generator)), data.labels[batch]
        loss, logits = loss_of(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(batch)
        hits += (logits.detach().argmax(1) == labels).sum()
        seen += len(batch)
        done = epoch - 1 + number / len(batches)
        progress(done, epochs, loss=loss.detach(), accuracy=100 * hits / seen)
    mean_loss = float(loss_sum) / len(data.labels)
    if not torch.isfinite(loss_sum):
        raise RiftError(f"the loss became {mean_loss} in epoch {epoch}; lower the learning rate")
    return mean_loss, 100 * float(hits) / len(data.labels)


def arithmetic(precision: Precision, device: torch.device) -> str:
    """Settle ``auto``: bfloat16 on a GPU that computes in it, else float32."""
    if precision != "auto":
        return precision
    return (
        "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    )
