"""The training loop that all regimes share."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rift.config import Attack, Augment, Train
from rift.data.split import Split
from rift.evaluation.accuracy import correct, percent, withstands_pgd
from rift.models.modes import snapshot
from rift.progress import Progress, silent
from rift.seeds import generator
from rift.training import Regime
from rift.training.epoch import Epoch, Trained, arithmetic, train_epoch


@dataclass(frozen=True)
class AdversarialEpoch(Epoch):
    """A row of the training history.

    Attributes:
        adversarial_accuracy: on the selection split under PGD, at the epoch's end, in percent.
    """

    adversarial_accuracy: float


def train(
    model: nn.Module,
    data: Split,
    validation: Split,
    regime: Regime,
    settings: Train,
    attack: Attack,
    augmentation: Augment,
    seed: int,
    progress: Progress = silent,
) -> Trained:
    """Train a model and keep its best epoch.

    The epoch kept is the one with the best accuracy of the regime's kind (adversarial, or standard where the regime
    does not attack) on the selection split; of equal ones the better in the other kind, then the earlier.

    Args:
        model: trained in place; it ends with the weights of the last epoch.
        data: training split, on the device of the model.
        validation: selection split, likewise.
        regime: an entry of ``rift.training.REGIMES``.
        settings: schedule, optimiser and precision.
        attack: threat model and PGD settings.
        augmentation: of training images.
        seed: of data order, augmentation and attacks.
        progress: called after every batch.

    Raises:
        RiftError: the loss is no longer finite.
    """
    device = data.images.device
    stream = generator(seed, "training", device)
    optimizer = torch.optim.SGD(
        model.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
    )
    in_bfloat16 = arithmetic(settings.precision, device) == "bfloat16"

    def loss_of(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
            return regime.loss(model, images, labels, attack, stream)

    history: list[AdversarialEpoch] = []
    best: tuple[float, float] | None = None
    state: dict[str, Tensor] = {}
    kept = 0
    for epoch in range(1, settings.epochs + 1):
        learning_rate = settings.learning_rate * 0.1 ** sum(epoch > milestone for milestone in settings.milestones)
        model.train()
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
        starts = generator(seed, "checkpoint selection", device)
        adversarial = percent(withstands_pgd(model, validation, attack, restarts=1, generator=starts))
        rank = (adversarial, standard) if regime.kept_by == "adversarial" else (standard, adversarial)
        if best is None or rank > best:
            best, state, kept = rank, snapshot(model), epoch
        history.append(AdversarialEpoch(epoch, learning_rate, loss, accuracy, standard, adversarial))
        note = f"accuracy {standard:.2f}%, under PGD {adversarial:.2f}% on the selection split"
        progress(epoch, settings.epochs, note, loss=loss)
    return Trained(state, history, kept)
