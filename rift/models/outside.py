"""Networks of architectures from outside: functions in files of the user."""

import importlib
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from rift.config.outside import code_file
from rift.errors import RiftError, first_line
from rift.models.modes import inference
from rift.models.normalisation import NORMALIZE
from rift.models.requirements import as_logits


def outside_network(architecture: str, classes: int, channels: int, size: int) -> nn.Module:
    """Return the network that a function of the user builds.

    The function takes the number of classes, the number of channels and the image size, like those
    of ``ARCHITECTURES``. Its network takes normalised images and returns logits.

    Args:
        architecture: ``MODULE:FUNCTION``; the module is in the working directory.
        classes: number of classes.
        channels: number of image channels.
        size: image size in pixels.

    Raises:
        RiftError: the file or the function does not exist or fails, or it returns no network for
            such images and classes.
    """
    file = code_file(architecture)
    module, function = architecture.split(":")
    told = f"architecture {architecture} ({file})"
    call = f"{function}({classes}, {channels}, {size})"
    with _from_working_directory():
        # Code of the user can raise any exception, and may end the process.
        try:
            code = importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise RiftError(f"{told}: cannot be imported: {_reason(error)}") from error
        if Path(code.__file__ or "").resolve() != file.resolve():
            raise RiftError(
                f"{told}: Python has another module {module}, {code.__file__ or 'built in'}; rename"
                " your file"
            )
        make = getattr(code, function, None)
        if not callable(make):
            raise RiftError(f"{told}: has no function {function}; write it, or correct the name")
        try:
            model = make(classes, channels, size)
        except (Exception, SystemExit) as error:
            raise RiftError(f"{told}: {call} fails: {_reason(error)}") from error
        if not isinstance(model, nn.Module):
            raise RiftError(
                f"{told}: {call} returns {type(model).__name__}; it must return a torch.nn.Module"
            )
        model = _normalisable(model, told)
        images = torch.zeros(2, channels, size, size)
        try:
            with inference(model), torch.no_grad():
                shape = tuple(as_logits(model(images)).shape)
        except (Exception, SystemExit) as error:
            raise RiftError(
                f"{told}: the network fails on images of shape {tuple(images.shape)}:"
                f" {_reason(error)}"
            ) from error
    if shape != (2, classes):
        raise RiftError(
            f"{told}: the network returns logits of shape {shape} for 2 images and {classes}"
            f" classes; they must have shape {(2, classes)}"
        )
    return model


class _Chain(nn.Sequential):
    """A ``Sequential`` that does not call the normalisation again, which becomes its child."""

    def __iter__(self) -> Iterator[nn.Module]:
        return (module for name, module in self.named_children() if name != NORMALIZE)


def _normalisable(model: nn.Module, told: str) -> nn.Module:
    """Return a network that can take the normalisation as a child of its own.

    Raises:
        RiftError: it has such a child, or would call it as one of its layers.
    """
    if hasattr(model, NORMALIZE):
        raise RiftError(
            f"{told}: the network has an attribute {NORMALIZE}; rift normalises images before the"
            " network, so return it without its own normalisation, or rename the attribute"
        )
    if type(model) is nn.Sequential:
        return _Chain(OrderedDict(model.named_children()))
    if isinstance(model, nn.Sequential):
        raise RiftError(
            f"{told}: returns a subclass of torch.nn.Sequential; return a plain Sequential, or a"
            " torch.nn.Module that contains it"
        )
    return model


@contextmanager
def _from_working_directory() -> Iterator[None]:
    """Let imports find modules in the working directory first, as ``python FILE`` does."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)


def _reason(error: BaseException) -> str:
    kind = "" if isinstance(error, RiftError) else f"{type(error).__name__}: "
    return f"{kind}{first_line(error)}"
