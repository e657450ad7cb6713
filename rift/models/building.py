"""Randomly initialised models: a network with input normalisation."""

from typing import Any, cast

import torch
from torch import nn

from rift.config import TIMM, Architecture
from rift.config.outside import is_outside
from rift.errors import RiftError
from rift.models.architectures import ARCHITECTURES
from rift.models.architectures.transformers import timm_network
from rift.models.normalisation import normalize_inputs
from rift.models.outside import outside_network
from rift.seeds import global_numbers_kept


def build(
    architecture: Architecture,
    *,
    classes: int,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    enlarge: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return a randomly initialised model with input normalisation.

    The model takes images in [0, 1] of shape N×C×H×W and returns logits of shape N×classes. The
    global random state does not change.

    Args:
        architecture: key of ``ARCHITECTURES``, ``timm:NAME``, or ``MODULE:FUNCTION``, whose file
            in the working directory is run.
        classes: number of classes.
        size: image size in pixels.
        mean: mean of each channel, for images in [0, 1]; its length is the number of channels.
        std: standard deviation of each channel, for images in [0, 1].
        enlarge: side in pixels to which the model enlarges the images, by nearest neighbours; None
            if the network takes them as they are.
        seed: seed of the initial weights.

    Raises:
        RiftError: the architecture does not exist, or does not support images of this size.
    """
    with global_numbers_kept(torch.device("cpu")):
        # Only the CPU generator is seeded: torch.manual_seed would also seed every GPU.
        torch.default_generator.manual_seed(seed)
        model = network(architecture, classes=classes, channels=len(mean), size=enlarge or size)
    normalize_inputs(model, mean, std, enlarge)
    # Convolutions are faster in this memory format, and saved files do not change. The cast is
    # needed because the type stubs of torch omit the argument.
    cast("Any", model).to(memory_format=torch.channels_last)
    return model


def network(architecture: Architecture, *, classes: int, channels: int, size: int) -> nn.Module:
    """Return a randomly initialised network without input normalisation.

    The module names match the common implementations.

    Args:
        architecture: key of ``ARCHITECTURES``, ``timm:NAME``, or ``MODULE:FUNCTION``, whose file
            in the working directory is run.
        classes: number of classes.
        channels: number of image channels.
        size: image size in pixels.

    Raises:
        RiftError: the architecture does not exist, or does not support images of this size.
    """
    for name, make in ARCHITECTURES.items():
        if name == architecture:
            return make(classes, channels, size)
    if is_outside(architecture):
        return outside_network(architecture, classes, channels, size)
    timm_name = architecture.removeprefix(TIMM)
    if timm_name == architecture:
        raise RiftError(
            f"architecture {architecture!r} is not available; available:"
            f" {', '.join(ARCHITECTURES)}, {TIMM}NAME, MODULE:FUNCTION"
        )
    return timm_network(timm_name, classes, channels, size)
