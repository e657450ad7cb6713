"""The base's own training or transfer, continued (scope ``more-training``).

A user who has time for fine-tuning could train the base for longer instead.
"""

from collections.abc import Sequence

from torch import nn

from rift.config import RunSettings, TrainingSettings
from rift.data.images import Images
from rift.finetuning import Tuning, halfway
from rift.models.modes import trainable
from rift.training.budget import passes_per_image
from rift.training.history import Trained
from rift.training.methods import METHODS
from rift.training.regimes import REGIMES, Regime
from rift.training.trainer import Job, Trainer


def continue_training(
    model: nn.Module, parameters: Sequence[nn.Parameter], tuning: Tuning
) -> Trained:
    """Continue the regime or method of the base, and return the epoch that it keeps.

    Loss, inner attack, augmentation and optimiser are those of the base's training or transfer, and
    so are the training images of a transfer. The learning rate is that of the continuation, divided
    by 10 halfway; the last layer of a transfer is no longer new and has no other one. A warm-up of
    AWP is over.

    Args:
        model: base, trained in place.
        parameters: parameters of the model that are trained.
        tuning: images, settings, and the regime or method of the base; the sections of training or
            transfer apply, and ``continuation``.

    Raises:
        RiftError: the network cannot be used, or the loss is no longer finite.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    regime, given, data = REGIMES[tuning.regime], tuning.settings, tuning.data
    before: TrainingSettings = given
    if tuning.method is not None:
        regime, before = METHODS[tuning.method], given.of_transfer().as_training()
        if given.transfer.images != "all":
            data = data.up_to(given.transfer.images)
    with trainable(model, parameters):
        settings = _continued(model, data, regime, given, before)
        job = Job(regime, settings, purpose="continuation", parameters=parameters)
        trainer = Trainer(model, data, tuning.validation, job, seed=tuning.seed)
        return trainer.run(tuning.work, tuning.after_epoch, tuning.progress)


def _continued(
    model: nn.Module,
    data: Images,
    regime: Regime,
    given: RunSettings,
    before: TrainingSettings,
) -> TrainingSettings:
    """Return settings of the trainer: those of the base, with the changes of the continuation."""
    own = given.continuation
    settings = before.model_copy(update={"awp": before.awp.model_copy(update={"warmup": 0})})
    if own.epochs == "matched":
        passes = passes_per_image(model, data, regime, settings)
        epochs = max(1, round(given.finetune.epochs / passes))
    else:
        epochs = own.epochs
    averaging = settings.train.averaging if own.averaging is None else own.averaging
    changed = {
        "epochs": epochs,
        "learning_rate": own.learning_rate,
        "schedule": "step",
        "milestones": halfway(epochs),
        "averaging": averaging,
        "compile": "never",  # the model is left as it was found
    }
    return settings.model_copy(update={"train": settings.train.model_copy(update=changed)})
