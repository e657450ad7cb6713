"""The arguments of the functions for Python: networks, images and settings of the user."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.data import DataLoader, Dataset

from rift import config
from rift.config.values import Section
from rift.data.images import Images
from rift.device import exact_arithmetic
from rift.errors import RiftError
from rift.models.requirements import PROBED, check_network, unwrapped
from rift.progress import Progress, display, hidden
from rift.seeds import global_numbers_kept

ImageSet: TypeAlias = Images | Dataset[Any] | DataLoader[Any] | tuple[Any, Any]
"""Images with labels: a pair of both, a torch ``Dataset`` or ``DataLoader``, or ``Images``."""

Settings = TypeVar("Settings", bound=Section)
Given: TypeAlias = Settings | Mapping[str, Any] | None
"""Settings of a section, or a dict with some of its keys; None takes the defaults."""

CRITICALITY_IMAGES = 1000
"""Largest number of images for MRC, unless the user sets another."""

# These keys are for files and jobs, or would have no effect here.
_OF_COMMANDS = {
    "criticality": ("split", "shards"),
    "interpolate": ("selection",),
    "pgd": ("images",),
}


class Sections(Section):
    """The settings of all steps; each section is a section of an experiment file."""

    attack: config.Attack = config.Attack()
    criticality: config.Criticality = config.Criticality()
    finetune: config.Finetune = config.Finetune()
    augment: config.Augment = config.Augment()
    interpolate: config.Interpolate = config.Interpolate()
    pgd: config.Pgd = config.Pgd()


def settings_of(**given: Section | Mapping[str, Any] | None) -> Sections:
    """Return the settings of the sections that were given, and the defaults of all others.

    Raises:
        RiftError: a section has an unknown key, a key without effect, or an invalid value; the
            message lists all of them.
    """
    try:
        sections = Sections.model_validate(
            {name: section for name, section in given.items() if section is not None}
        )
    except ValidationError as error:
        raise RiftError(config.describe(error, "settings")) from error
    for name, keys in _OF_COMMANDS.items():
        for key in keys:
            if key in getattr(sections, name).model_fields_set:
                raise RiftError(f"{name}.{key}: has no effect here; remove it")
    return sections


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network.

    Raises:
        RiftError: its weights are on several devices.
    """
    devices = {str(tensor.device) for tensor in chain(model.parameters(), model.buffers())}
    if len(devices) > 1:
        raise RiftError(
            f"network: has weights on {' and '.join(sorted(devices))}; move it to one device"
        )
    return torch.device(next(iter(devices), "cpu"))


def images_of(given: ImageSet, device: torch.device, argument: str) -> Images:
    """Return the images of the user on a device.

    Args:
        given: pair (images, labels), Dataset, DataLoader or ``Images``, as ``Images.of`` takes.
        device: device of the result.
        argument: name of the argument, for messages.

    Raises:
        RiftError: there is no image, or the images or labels have another type, shape or range.
    """
    if isinstance(given, tuple | list) and len(given) != 2:
        raise RiftError(f"{argument}: has {len(given)} parts; pass the pair (images, labels)")
    pair = given if isinstance(given, tuple | list) else (given, None)
    try:
        images = Images.of(*pair, device=device)
    except RiftError as error:
        raise RiftError(f"{argument}: {error}") from error
    if not len(images):
        raise RiftError(f"{argument}: contains no image; pass at least one")
    return images


def check_usable(model: nn.Module, images: Images, argument: str) -> None:
    """Check that a network can process images, and has a logit for each of their labels.

    Args:
        model: network, on the device of the images.
        images: images of one argument.
        argument: name of the argument, for messages.

    Raises:
        RiftError: it cannot, as ``check_network`` says.
    """
    try:
        check_network(model, images.take(slice(0, PROBED)).floats(), images.labels)
    except RiftError as error:
        # What is wrong with training images is wrong for all others, too: with the network.
        if argument == "train":
            raise
        raise RiftError(f"{argument}: {error}") from error


def digests_of(images: Images) -> set[bytes]:
    """Return a digest of the pixels of every image, in 8 bits each."""
    return {
        hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).digest()
        for batch in images.batches()
        for pixels in (batch.floats() * 255).round().to(torch.uint8).numpy(force=True)
    }


def for_criticality(images: Images, settings: config.Criticality) -> Images:
    """Return the images for MRC: as many as the settings say, otherwise at most 1,000.

    Raises:
        RiftError: there are fewer images than the settings say.
    """
    if "images" in settings.model_fields_set:
        return images.first(settings.images, "criticality.images")
    return images.up_to(CRITICALITY_IMAGES)


@contextmanager
def network_of(model: nn.Module) -> Iterator[tuple[nn.Module, torch.device]]:
    """Yield the network inside ``torch.compile`` and the like, and its device.

    Meanwhile torch computes as in the commands of rift. Its settings, gradient mode and global
    random numbers are restored at the end.

    Raises:
        RiftError: ``model`` is no network, or its weights are on several devices.
    """
    if not isinstance(model, nn.Module):
        raise RiftError(
            f"network: is a {type(model).__name__}; pass a torch.nn.Module that returns logits for"
            " images in [0, 1]"
        )
    network = unwrapped(model)
    device = device_of(network)
    with torch.enable_grad(), exact_arithmetic(), global_numbers_kept(device):
        yield network, device


def shown(stage: str, progress: bool) -> AbstractContextManager[Progress]:
    """Return a context that shows the progress of a stage, or hides it."""
    return display(stage) if progress else hidden(stage)
