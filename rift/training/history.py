"""The results of training and fine-tuning: a history of epochs, and the weights that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Epoch:
    """A row of a history; accuracies are in percent.

    Attributes:
        epoch: number of the epoch, from 1.
        learning_rate: learning rate of its last step.
        train_loss: mean training loss of the epoch.
        train_accuracy: accuracy on the training images during the epoch, as the network saw them:
            augmented, and attacked if the regime attacks.
        standard_accuracy: accuracy on the clean selection split at the end of the epoch.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    standard_accuracy: float


@dataclass(frozen=True)
class TrainingEpoch(Epoch):
    """A row of the history of adversarial training, measured in eval mode at the end of the epoch.

    Attributes:
        adversarial_accuracy: accuracy under PGD on the selection split.
        train_standard_accuracy: accuracy on the first training images, clean and not augmented.
        train_adversarial_accuracy: accuracy under PGD on the same images.
        averaged_standard_accuracy: accuracy of the averaged weights on the clean selection split;
            None if there is no average.
        averaged_adversarial_accuracy: accuracy of the averaged weights under PGD, likewise.
        images_per_second: training images per second, without the time for measuring.
        seconds: time for training and measuring.
    """

    adversarial_accuracy: float
    train_standard_accuracy: float
    train_adversarial_accuracy: float
    averaged_standard_accuracy: float | None
    averaged_adversarial_accuracy: float | None
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class TransferEpoch(TrainingEpoch):
    """A row of the history of a transfer.

    The norms are of the weights that ``rift.models.scale_invariance`` finds: those of the
    convolutions and linear layers whose output goes into batch norm, and nowhere else. All of them
    together are one vector w. Both wings of TWINS share it. The norms are None for a network
    without batch norm.

    Attributes:
        weight_norm: L2 norm of w at the end of the epoch.
        gradient_norm: L2 norm of the gradient of the training loss with respect to w, without
            weight decay and momentum: mean over the steps of the epoch.
        effective_learning_rate: η/‖w‖², where η is the learning rate of the last step and ‖w‖ is
            the weight norm. If the loss does not depend on ‖w‖, a step of SGD with η moves the
            direction w/‖w‖ as a step with this learning rate moves a unit vector (van Laarhoven
            2017, arXiv:1706.05350). The frozen wing's loss does depend on ‖w‖.
    """

    weight_norm: float | None
    gradient_norm: float | None
    effective_learning_rate: float | None


@dataclass(frozen=True)
class Trained:
    """The result of training or fine-tuning.

    Attributes:
        state: state dict of the kept epoch.
        history: one row per evaluated epoch.
        kept: number of the kept epoch.
        averaged: whether its averaged weights are kept instead of those of its last step.
        collapsed: number of the first epoch with catastrophic overfitting; None if there was none.
    """

    state: dict[str, Tensor]
    history: Sequence[Epoch]
    kept: int
    averaged: bool = False
    collapsed: int | None = None
