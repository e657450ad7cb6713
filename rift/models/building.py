"""Fresh models: a network of an architecture, behind its normalisation."""

from typing import Any, cast

import torch
from torch import nn

from rift.config import TIMM, Architecture
from rift.errors import RiftError
from rift.models.architectures import ARCHITECTURES
from rift.models.architectures.transformers import timm_network
from rift.models.normalisation import normalize_inputs


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
        torch.default_generator.manual_seed(
            seed
        )  # of the CPU alone: torch.manual_seed would reach every GPU
        model = network(architecture, classes=classes, channels=len(mean), size=size)
    normalize_inputs(model, mean, std)
    # Convolutions are faster so; the values and their order in a file stay the same.
    cast("Any", model).to(
        memory_format=torch.channels_last
    )  # torch's own stubs leave this argument out
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
