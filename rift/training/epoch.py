"""One pass of gradient steps over a split: what training and fine-tuning have in common."""

from collections.abc import Callable

import torch
from torch import Tensor

from rift.config import Augment
from rift.data.augmentation import augment
from rift.data.split import Split, shuffled, to_float
from rift.errors import RiftError
from rift.progress import Progress

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


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
    for number, batch in enumerate(batches, start=1):
        images, labels = to_float(augment(data.images[batch], augmentation, generator)), data.labels[batch]
        loss, logits = loss_of(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(batch)
        hits += (logits.detach().argmax(1) == labels).sum()
        progress(epoch - 1 + number / len(batches), epochs, loss=loss.detach())
    mean_loss = float(loss_sum) / len(data.labels)
    if not torch.isfinite(loss_sum):
        raise RiftError(f"the loss became {mean_loss} in epoch {epoch}; lower the learning rate")
    return mean_loss, 100 * float(hits) / len(data.labels)
