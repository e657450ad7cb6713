"""Architectures by name. Add yours to ``ARCHITECTURES`` and its name to ``rift.config.ArchitectureName``.

Inputs are images in [0, 1], N×C×H×W: ``build`` puts normalisation before the network, which need not know of it. Outputs are
logits, N×classes. Module names are those of the field, so that common checkpoints load. ``timm:NAME`` is any network of timm.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from rift.config import TIMM, Architecture, ArchitectureName
from rift.errors import RiftError
from rift.models.normalisation import normalize_inputs
from rift.models.preact_resnet import PreActResNet
from rift.models.resnet import ResNet
from rift.models.transformers import timm_network, vit_small
from rift.models.wide_resnet import WideResNet

Maker = Callable[[int, int, int], nn.Module]  # of classes, channels, and the side of the images in pixels


def any_size(make: Callable[[int, int], nn.Module]) -> Maker:
    """Leave out the size of the images: a convolutional network averages over what is left of them."""
    return lambda classes, channels, _size: make(classes, channels)


ARCHITECTURES: dict[ArchitectureName, Maker] = {
    "resnet8": any_size(partial(ResNet, blocks=(1, 1, 1), width=16)),
    "resnet18-w16": any_size(partial(ResNet, blocks=(2, 2, 2, 2), width=16)),
    "resnet18-w32": any_size(partial(ResNet, blocks=(2, 2, 2, 2), width=32)),
    "resnet18": any_size(partial(ResNet, blocks=(2, 2, 2, 2), width=64)),
    "resnet34": any_size(partial(ResNet, blocks=(3, 4, 6, 3), width=64)),
    "preact-resnet18": any_size(partial(PreActResNet, width=64)),
    "wrn-28-10": any_size(partial(WideResNet, depth=28, widen=10)),
    "wrn-34-10": any_size(partial(WideResNet, depth=34, widen=10)),
    "vit-small": vit_small,
}


def build(
    architecture: Architecture,
    *,
    classes: int,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    seed: int = 0,
) -> nn.Module:
    """Make a freshly initialised model.

    Args:
        architecture: a key of ``ARCHITECTURES``, or ``timm:NAME``.
        classes: number of logits.
        size: side of the images in pixels.
        mean: of each channel, images in [0, 1]; their number is the number of input channels.
        std: of each channel.
        seed: of the initial weights; the global random state is left as it was.

    Raises:
        RiftError: there is no such architecture, or it does not take images of this size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed would reach every GPU
        model = network(architecture, classes=classes, channels=len(mean), size=size)
    normalize_inputs(model, mean, std)
    # Convolutions are faster so; the values and their order in a file stay the same.
    cast("Any", model).to(memory_format=torch.channels_last)  # torch's own stubs leave this argument out
    return model


def network(architecture: Architecture, *, classes: int, channels: int, size: int) -> nn.Module:
    """Make a network alone, with the names that it has in the field and without normalisation.

    Raises:
        RiftError: there is no such architecture, or it does not take images of this size.
    """
    for name, make in ARCHITECTURES.items():
        if name == architecture:
            return make(classes, channels, size)
    other = architecture.removeprefix(TIMM)
    if other == architecture:
        raise RiftError(
            f"architecture {architecture!r} is not available; available: {', '.join(ARCHITECTURES)}, {TIMM}NAME"
        )
    return timm_network(other, classes, channels, size)
