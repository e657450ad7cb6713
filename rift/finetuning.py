"""Clean fine-tuning of some modules of a network (Zhu et al. 2023, section 4.2)."""

from collections.abc import Callable, Sequence

from torch import nn

from rift.artifacts.resume import Work
from rift.config import Augment, Finetune, Train, TrainingSettings
from rift.data.images import Images
from rift.models.modes import trainable
from rift.models.state import snapshot
from rift.progress import Progress, no_progress
from rift.training.history import Trained
from rift.training.measuring import measure_clean
from rift.training.regimes import REGIMES
from rift.training.trainer import Job, Trainer


def fine_tune(
    model: nn.Module,
    data: Images,
    validation: Images,
    modules: Sequence[str],
    *,
    settings: Finetune,
    augmentation: Augment,
    seed: int,
    work: Work | None = None,
    after_epoch: Callable[[Trained], None] = lambda trained: None,
    progress: Progress = no_progress,
) -> Trained:
    """Fine-tune some modules on clean images with cross-entropy, and return the best epoch.

    All other weights are fixed. The epoch that is kept has the best standard accuracy on the selection
    split; of equal ones it is the earlier. (The paper keeps the one of best test accuracy.)

    Args:
        model: left as it was; the fine-tuned weights are in the result.
        data: training images, on the device of the model.
        validation: selection split, likewise.
        modules: names of modules whose parameters are trained; an empty name is the whole network.
        settings: optimiser, schedule and what batch norm does.
        augmentation: of training images.
        seed: of data order and augmentation.
        work: an interrupted fine-tuning that goes on, and saves its state.
        after_epoch: called with the result so far at the end of every epoch.
        progress: called after every step.

    Raises:
        RiftError: the loss is no longer finite.
        Stopped: a signal asked for it; the state has been saved.
    """
    parameters = [
        parameter
        for module in map(model.get_submodule, modules)
        # The output projection within torch's attention is measured, and chosen, separately.
        for parameter in module.parameters(recurse=not isinstance(module, nn.MultiheadAttention))
    ]
    job = Job(
        REGIMES["standard"],
        _as_training(settings, augmentation),
        purpose="fine-tuning",
        parameters=parameters,
        measure=measure_clean,
        moves_statistics=settings.batch_norm == "train",
    )
    before = snapshot(model)
    modes = {module: module.training for module in model.modules()}
    try:
        with trainable(model, parameters):
            trainer = Trainer(model, data, validation, job, seed=seed)
            return trainer.run(work or Work(), after_epoch, progress)
    finally:
        model.load_state_dict(before)
        model.zero_grad()
        for module, mode in modes.items():
            module.training = mode


def _as_training(settings: Finetune, augmentation: Augment) -> TrainingSettings:
    """Write the settings of fine-tuning as settings of the trainer."""
    train = Train(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule="step",
        milestones=(-(-settings.epochs // 2),),  # halfway; of an odd number, after the middle epoch
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        precision=settings.precision,
        compile="never",
    )
    return TrainingSettings(train=train, augment=augmentation)
