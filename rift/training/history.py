"""What training and fine-tuning return: a history of epochs and the weights that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Epoch:
    """A row of a history; accuracies are in percent.

    Attributes:
        epoch: number, from 1.
        learning_rate: of its last step.
        train_loss: mean of the loss that was trained on.
        train_accuracy: on the images as they were trained on (attacked ones, if the regime attacks),
            while training.
        standard_accuracy: on the clean selection split, at the epoch's end.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    standard_accuracy: float


@dataclass(frozen=True)
class TrainingEpoch(Epoch):
    """A row of the history of adversarial training; measured at the epoch's end, in eval mode.

    Attributes:
        adversarial_accuracy: on the selection split under PGD.
        train_standard_accuracy: on the first training images, clean and not augmented.
        train_adversarial_accuracy: on the same images under PGD.
        averaged_standard_accuracy: of the averaged weights, on the selection split; None if there
            are none.
        averaged_adversarial_accuracy: likewise, under PGD.
        images_per_second: while training.
        seconds: of training and measuring.
    """

    adversarial_accuracy: float
    train_standard_accuracy: float
    train_adversarial_accuracy: float
    averaged_standard_accuracy: float | None
    averaged_adversarial_accuracy: float | None
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """The result of training or fine-tuning.

    Attributes:
        state: state dict of the epoch that is kept.
        history: a record of every epoch.
        kept: number of the epoch that is kept.
        averaged: whether its averaged weights are kept, not those of its last step.
        collapsed: first epoch of catastrophic overfitting, None if there was none.
    """

    state: dict[str, Tensor]
    history: Sequence[Epoch]
    kept: int
    averaged: bool = False
    collapsed: int | None = None
