"""The computing that a step of a regime needs, in passes of an image through the network."""

import torch
from torch import nn

from rift.config import TrainingSettings
from rift.data.images import Images
from rift.models.modes import restored
from rift.seeds import generator, global_numbers_kept
from rift.training.parallel import ALONE
from rift.training.regimes import Regime
from rift.training.step import BatchGradient

COUNTED = 8
"""Number of images of the step whose passes are counted."""


def passes_per_image(
    model: nn.Module, data: Images, regime: Regime, settings: TrainingSettings
) -> float:
    """Return how often a training step passes each image through the network.

    They are counted in one step on a few images, so they include every step of the inner attack and
    whatever else the regime needs. A step of standard training has one pass, one of PGD training
    with k steps has k + 1. A pass counts as one with and without its backward pass.

    Args:
        model: network, all of whose weights are trained; it is restored.
        data: at least two images, on the device of the model.
        regime: loss, objective and mode of the attack.
        settings: inner attack, threat model, and running statistics.
    """
    few, passed = data.up_to(COUNTED), 0

    def count(_module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        nonlocal passed
        passed += len(given[0])

    whole = settings.train.model_copy(update={"accumulate": 1, "precision": "float32"})
    settings = settings.model_copy(update={"train": whole})
    stream = generator(0, "count of passes", data.device)
    with restored(model), global_numbers_kept(data.device):
        model.train()
        gradient = BatchGradient(model, regime, settings, stream, ALONE)
        hook = model.register_forward_pre_hook(count)
        try:
            gradient(few.floats(), few.labels, settings.train.epochs)
        finally:
            hook.remove()
    return passed / len(few)
