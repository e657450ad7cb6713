"""The base's own training or transfer, continued (scope ``more-training``).

A user who has time for fine-tuning could train the base for longer instead.
"""

from collections.abc import Callable, Sequence

from torch import nn

from rift.config import Continuation, TrainingSettings
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
    so are the training images of a transfer. Learning rate and schedule are those of the
    continuation; the last layer of a transfer is no longer new and has no other one. A warm-up of
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
    return continued(model, parameters, tuning, tuning.settings.continuation, lambda same: same)


def continued(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    tuning: Tuning,
    own: Continuation,
    change: Callable[[Regime], Regime],
) -> Trained:
    """Continue a changed regime or method of the base; see ``continue_training``.

    Args:
        model: base, trained in place.
        parameters: parameters of the model that are trained.
        tuning: images, settings, and the regime or method of the base.
        own: epochs, learning rate and averaging.
        change: function of the regime or method of the base that returns the one to continue with.
    """
    given, data = tuning.settings, tuning.data
    regime: Regime = REGIMES[tuning.regime]
    before: TrainingSettings = given
    if tuning.method is not None:
        regime, before = METHODS[tuning.method], given.of_transfer().as_training()
        if given.transfer.images != "all":
            data = data.up_to(given.transfer.images)
    regime = change(regime)
    with trainable(model, parameters):
        settings = _settings(model, data, regime, own, given.finetune.epochs, before)
        job = Job(regime, settings, purpose="continuation", parameters=parameters)
        trainer = Trainer(model, data, tuning.validation, job, seed=tuning.seed)
        return trainer.run(tuning.work, tuning.after_epoch, tuning.progress)


def _settings(
    model: nn.Module,
    data: Images,
    regime: Regime,
    own: Continuation,
    matched: int,
    before: TrainingSettings,
) -> TrainingSettings:
    """Return settings of the trainer: those of the base, with the changes of the continuation.

    ``matched`` is the number of epochs of fine-tuning, whose computing may be matched.
    """
    settings = before.model_copy(update={"awp": before.awp.model_copy(update={"warmup": 0})})
    if own.epochs == "matched":
        passes = passes_per_image(model, data, regime, settings)
        epochs = max(1, round(matched / passes))
    else:
        epochs = own.epochs
    averaging = settings.train.averaging if own.averaging is None else own.averaging
    changed = {
        "epochs": epochs,
        "learning_rate": own.learning_rate,
        "schedule": own.schedule,
        "milestones": halfway(epochs),
        "averaging": averaging,
        "compile": "never",  # the model is left as it was found
    }
    return settings.model_copy(update={"train": settings.train.model_copy(update=changed)})
