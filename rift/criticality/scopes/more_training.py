"""The base's own training, continued (scope ``more-training``).

A user who has time for fine-tuning could train the base for longer instead.
"""

from collections.abc import Sequence

from torch import nn

from rift.config import RunSettings
from rift.finetuning import Tuning, halfway
from rift.models.modes import trainable
from rift.training.budget import passes_per_image
from rift.training.history import Trained
from rift.training.regimes import REGIMES, Regime
from rift.training.trainer import Job, Trainer


def continue_training(
    model: nn.Module, parameters: Sequence[nn.Parameter], tuning: Tuning
) -> Trained:
    """Continue the regime of the base, and return the epoch that the regime keeps.

    Loss, inner attack, augmentation and optimiser are those of the base's training. The learning
    rate is that of the continuation, divided by 10 halfway. A warm-up of AWP is over.

    Args:
        model: base, trained in place.
        parameters: parameters of the model that are trained.
        tuning: images, settings, and the regime of the base; the sections of training apply, and
            ``continuation``.

    Raises:
        RiftError: the network cannot be used, or the loss is no longer finite.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    regime = REGIMES[tuning.regime]
    with trainable(model, parameters):
        settings = _as_training(model, regime, tuning)
        job = Job(regime, settings, purpose="continuation", parameters=parameters)
        trainer = Trainer(model, tuning.data, tuning.validation, job, seed=tuning.seed)
        return trainer.run(tuning.work, tuning.after_epoch, tuning.progress)


def _as_training(model: nn.Module, regime: Regime, tuning: Tuning) -> RunSettings:
    """Return the settings of the continuation as settings of the trainer."""
    given, settings = tuning.settings.continuation, tuning.settings
    settings = settings.model_copy(update={"awp": settings.awp.model_copy(update={"warmup": 0})})
    if given.epochs == "matched":
        passes = passes_per_image(model, tuning.data, regime, settings)
        epochs = max(1, round(settings.finetune.epochs / passes))
    else:
        epochs = given.epochs
    averaging = settings.train.averaging if given.averaging is None else given.averaging
    changed = {
        "epochs": epochs,
        "learning_rate": given.learning_rate,
        "schedule": "step",
        "milestones": halfway(epochs),
        "averaging": averaging,
        "compile": "never",  # the model is left as it was found
    }
    return settings.model_copy(update={"train": settings.train.model_copy(update=changed)})
