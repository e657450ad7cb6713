"""One pass of gradient steps over a split: what training and fine-tuning have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rift.config import Augment, Precision
from rift.data.augmentation import augment
from rift.data.split import Split, batches, shuffled, to_float
from rift.errors import RiftError
from rift.progress import Progress, silent

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Epoch:
    """A row of a history; accuracies in percent.

    Attributes:
        epoch: counted from 1.
        learning_rate: of its last step.
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
    """What training or fine-tuning has come to.

    Attributes:
        state: state dict of the epoch kept.
        history: a record of every epoch.
        kept: number of the epoch kept.
    """

    state: dict[str, Tensor]
    history: Sequence[Epoch]
    kept: int


@dataclass
class Pass:
    """One pass in random order, and how far it has come: another process can go on from it.

    Attributes:
        epoch: its number, from 1.
        order: index of every image, in the order of this pass.
        steps: steps done.
        loss_sum: of the losses of the images seen.
        hits: how many of them were classified correctly.
        broken: the first step whose loss was not finite; 0: none. These three stay on the device until somebody asks.
    """

    epoch: int
    order: Tensor
    steps: int
    loss_sum: Tensor
    hits: Tensor
    broken: Tensor

    @classmethod
    def begin(cls, epoch: int, images: int, generator: torch.Generator) -> "Pass":
        zeros = (
            torch.zeros((), device=generator.device, dtype=kind) for kind in (torch.float32, torch.int64, torch.int64)
        )
        return cls(epoch, shuffled(images, generator), 0, *zeros)

    @property
    def loss(self) -> float:
        """Mean loss of a finished pass."""
        return float(self.loss_sum) / len(self.order)

    @property
    def accuracy(self) -> float:
        """Accuracy of a finished pass, in percent."""
        return 100 * float(self.hits) / len(self.order)

    def check_finite(self, good: str = "") -> None:
        """Make sure that no loss so far was infinite or not a number.

        Raises:
            RiftError: one was; ``good`` says what is left to go back to.
        """
        if int(self.broken):
            raise RiftError(
                f"the loss became {float(self.loss_sum)} in epoch {self.epoch}, batch {int(self.broken)}; lower the learning"
                f" rate{good}"
            )


def go_through(
    here: Pass,
    data: Split,
    step: Step,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[float], float],
    augmentation: Augment,
    generator: torch.Generator,
    *,
    batch_size: int,
    least: int = 2,
    after_step: Callable[[], None] = lambda: None,
    epochs: int = 1,
    progress: Progress = silent,
) -> None:
    """Do what is left of a pass: a gradient step a batch. Nothing waits for the device but what is shown.

    Args:
        here: the pass; it is moved along.
        data: split that is gone through, on the device of ``generator``.
        step: function of images (float32 in [0, 1]) and labels that leaves gradients, and returns the batch's mean loss
            and how many images were classified correctly.
        optimizer: of the weights that are trained.
        learning_rate: function of the epochs done, the half of the present step among them.
        augmentation: of every batch.
        generator: of augmentation.
        batch_size: images a step.
        least: what a last batch must have to be one of its own.
        after_step: called after every step.
        epochs: how many passes there are, for progress.
        progress: called after every step.
    """
    parts = batches(here.order, batch_size, least)
    seen = sum(len(batch) for batch in parts[: here.steps])
    for batch in parts[here.steps :]:
        rate = learning_rate(here.epoch - 1 + (here.steps + 0.5) / len(parts))
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = to_float(augment(data.images[batch], augmentation, generator)), data.labels[batch]
        optimizer.zero_grad()
        loss, hits = step(images, labels)
        optimizer.step()
        here.steps += 1
        seen += len(batch)
        here.loss_sum += loss * len(batch)
        here.hits += hits
        here.broken = torch.where((here.broken == 0) & ~loss.isfinite(), here.steps, here.broken)
        after_step()
        progress(here.epoch - 1 + here.steps / len(parts), epochs, loss=loss, accuracy=100 * here.hits / seen)


def arithmetic(precision: Precision, device: torch.device) -> str:
    """Settle ``auto``: bfloat16 on a GPU that computes in it, else float32."""
    if precision != "auto":
        return precision
    return (
        "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    )
