"""Architectures by name. Add yours to ``ARCHITECTURES`` and its name to ``rift.config.ArchitectureName``.

Inputs are images in [0, 1], N×C×H×W: normalisation is the model's own first layer, so that threat model and attack are in
pixel space. Outputs are logits, N×classes. Module names are those of the field, so that common checkpoints load.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from rift.config import ArchitectureName
from rift.models.resnet import ResNet

ARCHITECTURES: dict[ArchitectureName, Callable[[int, int], nn.Module]] = {
    "resnet8": partial(ResNet, blocks=(1, 1, 1), width=16),
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2), width=64),
}


def build(
    architecture: ArchitectureName,
    *,
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    seed: int = 0,
) -> nn.Module:
    """Make a freshly initialised model.

    Args:
        architecture: a key of ``ARCHITECTURES``.
        classes: number of logits.
        mean: of each channel, images in [0, 1]; their number is the number of input channels.
        std: of each channel.
        seed: of the initial weights; the global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed would reach every GPU
        model = ARCHITECTURES[architecture](classes, len(mean))
    normalize = model.get_submodule("normalize")
    normalize.load_state_dict({"mean": torch.tensor(mean), "std": torch.tensor(std)})
    # Convolutions are faster so; the values and their order in a file stay the same.
    cast("Any", model).to(memory_format=torch.channels_last)  # torch's own stubs leave this argument out
    return model
