"""One epoch of gradient steps, which another process can continue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rift.config import Augment
from rift.data.augmentation import augment
from rift.data.images import Images
from rift.errors import RiftError
from rift.progress import Progress


@dataclass
class EpochState:
    """The state of one pass over the training images in random order.

    Sums and counts of images stay on the device, so that steps do not wait for it.

    Attributes:
        epoch: number of the epoch, from 1.
        order: index of every image, in the order of this epoch.
        steps: number of finished steps.
        loss_sum: sum of the losses of all images so far.
        hits: number of images so far that were classified correctly.
        broken: number of the first step whose loss was not finite; 0 if there is none.
        gradient_norms: sum over the steps so far of the norm of the watched weights' gradient; None
            before the first step, and if no weights are watched.
    """

    epoch: int
    order: Tensor
    steps: int
    loss_sum: Tensor
    hits: Tensor
    broken: Tensor
    gradient_norms: Tensor | None = None

    @classmethod
    def begin(cls, epoch: int, images: int, generator: torch.Generator) -> "EpochState":
        """Return a new epoch in random order.

        Args:
            epoch: number of the epoch, from 1.
            images: number of training images.
            generator: source of the order, on the device of the images.
        """
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

    @property
    def gradient_norm(self) -> float | None:
        """Return the mean norm of the watched gradient; None if no weights are watched."""
        return None if self.gradient_norms is None else float(self.gradient_norms) / self.steps

    def check_finite(self, advice: str = "") -> None:
        """Raise an error if a loss so far was infinite or NaN.

        Args:
            advice: end of the message, such as the last saved state.

        Raises:
            RiftError: a loss was not finite.
        """
        if int(self.broken):
            raise RiftError(
                f"the loss became {float(self.loss_sum)} in epoch {self.epoch}, batch"
                f" {int(self.broken)}; lower the learning rate{advice}"
            )


def cut_into_batches(order: Tensor, batch_size: int, least: int = 2) -> list[Tensor]:
    """Return the order of an epoch in batches.

    A last batch of fewer than ``least`` images joins the batch before it, because batch norm cannot
    normalise a single value.

    Args:
        order: index of every image, in the order of the epoch.
        batch_size: images per batch.
        least: smallest allowed size of the last batch.
    """
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) < least:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@dataclass(frozen=True)
class Steps:
    """The parts of a step, which are the same in all epochs.

    Attributes:
        gradient: function of images (float32 in [0, 1], N×C×H×W), labels and number of the epoch.
            It adds to the gradients, and returns the mean loss and the number of correct
            predictions.
        optimizer: optimiser of the trained weights.
        learning_rate: function of the finished epochs, including half of the present step.
        augmentation: augmentation of every batch.
        generator: source of the augmentation's random numbers.
        batch_size: images per step.
        least: smallest size of a last batch; a smaller one joins the batch before it.
        epochs: number of epochs, for the progress.
        after_step: called after every step.
        watched: weights whose gradient is measured in every step.
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
    watched: Sequence[nn.Parameter] = ()


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of all entries of some tensors; at least one is given."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
    return norm


def run_epoch(epoch: EpochState, data: Images, steps: Steps, progress: Progress) -> None:
    """Take the remaining steps of an epoch.

    Steps do not wait for the device, unless the progress shows a number.

    Args:
        epoch: state of the epoch, changed in place.
        data: training images, on the device of the generator.
        steps: parts of a step.
        progress: called after every step.
    """
    batches = cut_into_batches(epoch.order, steps.batch_size, steps.least)
    seen = sum(len(batch) for batch in batches[: epoch.steps])

    for batch in batches[epoch.steps :]:
        rate = steps.learning_rate(epoch.epoch - 1 + (epoch.steps + 0.5) / len(batches))
        for group in steps.optimizer.param_groups:
            # The trainer gives some weights a multiple of the learning rate.
            group["lr"] = rate * group.get("scale", 1.0)

        images = augment(data.take(batch), steps.augmentation, steps.generator)
        steps.optimizer.zero_grad()
        loss, hits = steps.gradient(images.floats(), images.labels, epoch.epoch)
        if steps.watched:
            # The optimiser adds weight decay and momentum later.
            norm = norm_of([weight.grad for weight in steps.watched if weight.grad is not None])
            before = epoch.gradient_norms
            epoch.gradient_norms = norm if before is None else before + norm
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
