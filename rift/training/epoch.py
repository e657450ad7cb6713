"""One epoch of gradient steps, which another process can go on with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rift.config import Augment
from rift.data.augmentation import augment
from rift.data.images import Images
from rift.errors import RiftError
from rift.progress import Progress


@dataclass
class EpochState:
    """One pass over the training images in random order, and how far it has come.

    Attributes:
        epoch: number, from 1.
        order: index of every image, in the order of this epoch.
        steps: finished steps.
        loss_sum: of the losses of the images seen.
        hits: how many of them were classified correctly.
        broken: first step whose loss was not finite, 0 if none. The last three stay on the device
            until somebody asks for them.
    """

    epoch: int
    order: Tensor
    steps: int
    loss_sum: Tensor
    hits: Tensor
    broken: Tensor

    @classmethod
    def begin(cls, epoch: int, images: int, generator: torch.Generator) -> "EpochState":
        """Draw the order of an epoch."""
        device = generator.device
        order = torch.randperm(images, generator=generator, device=device)
        loss_sum = torch.zeros((), device=device)
        hits, broken = (torch.zeros((), device=device, dtype=torch.int64) for _ in range(2))
        return cls(epoch, order, 0, loss_sum, hits, broken)

    @classmethod
    def restore(cls, state: dict[str, Any], device: torch.device) -> "EpochState":
        """Return the epoch of a saved state, on a device."""
        moved: dict[str, Any] = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in state.items()
        }
        return cls(**moved)

    @property
    def loss(self) -> float:
        """Return the mean loss of a finished epoch."""
        return float(self.loss_sum) / len(self.order)

    @property
    def accuracy(self) -> float:
        """Return the accuracy of a finished epoch, in percent."""
        return 100 * float(self.hits) / len(self.order)

    def check_finite(self, advice: str = "") -> None:
        """Make sure that no loss so far was infinite or not a number.

        Args:
            advice: what is left to go back to, for the message.

        Raises:
            RiftError: one was.
        """
        if int(self.broken):
            raise RiftError(
                f"the loss became {float(self.loss_sum)} in epoch {self.epoch}, batch"
                f" {int(self.broken)}; lower the learning rate{advice}"
            )


def cut_into_batches(order: Tensor, batch_size: int, least: int = 2) -> list[Tensor]:
    """Cut the order of an epoch into batches.

    A last batch of fewer than ``least`` images joins the one before it: batch norm cannot normalise a
    single value.
    """
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) < least:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@dataclass(frozen=True)
class Steps:
    """How the steps of an epoch are taken.

    Attributes:
        gradient: function of images (float32 in [0, 1], N×C×H×W), labels and the epoch's number that
            leaves gradients, and returns the mean loss and how many images were classified correctly.
        optimizer: of the weights that are trained.
        learning_rate: function of the epochs done, half of the present step included.
        augmentation: of every batch.
        generator: of augmentation.
        batch_size: images per step.
        least: a last batch of fewer images joins the one before it.
        epochs: how many there are, for progress.
        after_step: called after every step.
    """

    gradient: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
    optimizer: torch.optim.Optimizer
    learning_rate: Callable[[float], float]
    augmentation: Augment
    generator: torch.Generator
    batch_size: int
    least: int
    epochs: int
    after_step: Callable[[], None]


def run_epoch(epoch: EpochState, data: Images, steps: Steps, progress: Progress) -> None:
    """Take the remaining steps of an epoch; nothing waits for the device but what is shown.

    Args:
        epoch: changed in place.
        data: training images, on the device of the generator.
        steps: how each step is taken.
        progress: called after every step.
    """
    batches = cut_into_batches(epoch.order, steps.batch_size, steps.least)
    seen = sum(len(batch) for batch in batches[: epoch.steps])

    for batch in batches[epoch.steps :]:
        rate = steps.learning_rate(epoch.epoch - 1 + (epoch.steps + 0.5) / len(batches))
        for group in steps.optimizer.param_groups:
            group["lr"] = rate

        images = augment(data.take(batch), steps.augmentation, steps.generator)
        steps.optimizer.zero_grad()
        loss, hits = steps.gradient(images.floats(), images.labels, epoch.epoch)
        steps.optimizer.step()

        epoch.steps += 1
        seen += len(batch)
        epoch.loss_sum += loss * len(batch)
        epoch.hits += hits
        first_broken = (epoch.broken == 0) & ~loss.isfinite()
        epoch.broken = torch.where(first_broken, epoch.steps, epoch.broken)
        steps.after_step()
        done = epoch.epoch - 1 + epoch.steps / len(batches)
        progress(done, steps.epochs, loss=loss, accuracy=100 * epoch.hits / seen)
