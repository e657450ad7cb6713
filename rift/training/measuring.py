"""Measurements of a model after an epoch."""

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from rift.data.images import BATCH_SIZE, Images
from rift.device import autocast
from rift.evaluation.accuracy import correct, percent, withstands_pgd
from rift.seeds import generator
from rift.training.epoch import norm_of
from rift.training.history import Epoch, TrainingEpoch, TransferEpoch

if TYPE_CHECKING:
    from rift.training.trainer import Trainer

WATCHED = 1000
"""Number of training images that are measured in the same way as the selection split."""


class Measure(Protocol):
    """A way to measure a model after an epoch."""

    @property
    def row(self) -> type[Epoch]:
        """Return the class of the rows of the history."""

    def __call__(self, trainer: "Trainer") -> tuple[Epoch, str]:
        """Measure the model, make its weights candidates, and return a row and a log line."""


class MeasureClean:
    """A measurement of the accuracy on the clean selection split."""

    row = Epoch

    def __call__(self, trainer: "Trainer") -> tuple[Epoch, str]:
        """Measure the model, make its weights a candidate, and return a row and a log line."""
        outcomes = correct(trainer.model, trainer.validation)
        trainer.consider(outcomes[None].float())
        row = Epoch(
            epoch=trainer.epoch.epoch,
            learning_rate=trainer.optimizer.param_groups[0]["lr"],
            train_loss=trainer.epoch.loss,
            train_accuracy=trainer.epoch.accuracy,
            standard_accuracy=percent(outcomes),
        )
        return row, f"accuracy {row.standard_accuracy:.2f}% on the selection split"


class MeasureRobust:
    """A measurement on clean and attacked images of the selection split and the training split.

    The weights of the last step and the averaged weights become candidates. PGD has its own random
    starts here. The kept epoch was selected because it survived them, so other measurements must
    use others.
    """

    row: type[TrainingEpoch] = TrainingEpoch

    def __call__(self, trainer: "Trainer") -> tuple[TrainingEpoch, str]:
        """Measure the model, make its weights candidates, and return a row and a log line."""
        trained_for = trainer.seconds
        images = trainer.settings.train.measure_images
        selection = trainer.validation.first(images, "train.measure_images")
        outcomes = _outcomes(trainer, selection)
        watched = _outcomes(trainer, trainer.data.up_to(WATCHED))

        averaged = None
        if trainer.average is not None:
            with trainer.average.within(trainer.model):
                averaged = _outcomes(trainer, selection)
                trainer.consider(averaged, averaged=True)
        trainer.consider(outcomes)

        row = TrainingEpoch(
            epoch=trainer.epoch.epoch,
            learning_rate=trainer.optimizer.param_groups[0]["lr"],
            train_loss=trainer.epoch.loss,
            train_accuracy=trainer.epoch.accuracy,
            standard_accuracy=percent(outcomes[0]),
            adversarial_accuracy=percent(outcomes[1]),
            train_standard_accuracy=percent(watched[0]),
            train_adversarial_accuracy=percent(watched[1]),
            averaged_standard_accuracy=None if averaged is None else percent(averaged[0]),
            averaged_adversarial_accuracy=None if averaged is None else percent(averaged[1]),
            images_per_second=len(trainer.data) / trained_for,
            seconds=trainer.seconds,
        )
        note = (
            f"accuracy {row.standard_accuracy:.2f}%, under PGD {row.adversarial_accuracy:.2f}% on"
            " the selection split"
        )
        if averaged is not None:
            note += f"; averaged weights {percent(averaged[0]):.2f}%, {percent(averaged[1]):.2f}%"
        return row, note


class MeasureTransfer(MeasureRobust):
    """The same measurement, and the norms of the weights that the job watches."""

    row = TransferEpoch

    def __call__(self, trainer: "Trainer") -> tuple[TransferEpoch, str]:
        """Measure the model, make its weights candidates, and return a row and a log line."""
        row, note = super().__call__(trainer)
        watched = [weight.detach() for weight in trainer.job.watched]
        norm = float(norm_of(watched)) if watched else None
        measured = TransferEpoch(
            **vars(row),
            weight_norm=norm,
            gradient_norm=trainer.epoch.gradient_norm,
            effective_learning_rate=row.learning_rate / norm**2 if norm else None,
        )
        return measured, note


measure_clean, measure_robust = MeasureClean(), MeasureRobust()
measure_transfer = MeasureTransfer()


def _outcomes(trainer: "Trainer", images: Images) -> Tensor:
    """Return the outcomes (0 or 1) on clean and attacked images, 2×N; processes share the work."""
    device, group = images.device, trainer.group
    precision = trainer.settings.train.measure_precision
    outcomes = torch.zeros(2, len(images), device=device)
    for number, start in enumerate(range(0, len(images), BATCH_SIZE)):
        if number % group.size != group.rank:
            continue
        part = slice(start, start + BATCH_SIZE)
        batch = images.take(part)
        starts = generator(trainer.seed, f"checkpoint selection {number}", device)
        with autocast(precision, device):
            outcomes[0, part] = correct(trainer.model, batch).float()
            outcomes[1, part] = withstands_pgd(
                trainer.model,
                batch,
                attack=trainer.settings.attack,
                restarts=1,
                generator=starts,
            ).float()
    group.add([outcomes])
    return outcomes
