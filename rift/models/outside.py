"""Networks from outside: functions in files of the user, with or without weights."""

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
    """Return the randomly initialised network that a function of the user builds.

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
    told = f"architecture {architecture} ({code_file(architecture)})"
    with _from_working_directory():
        model = _normalisable(_made(architecture, told, (classes, channels, size)), told)
        check_logits(model, told, classes, channels, size)
    return model


def trained_network(name: str) -> nn.Module:
    """Return the network that a function of the user builds and loads with its weights.

    The function takes no arguments. Its network takes images in [0, 1] and returns logits.

    Args:
        name: ``MODULE:FUNCTION``; the module is in the working directory.

    Raises:
        RiftError: the file or the function does not exist or fails, or it returns no network.
    """
    with _from_working_directory():
        return _made(name, f"{name} ({code_file(name)})", ())


def check_logits(model: nn.Module, told: str, classes: int, channels: int, size: int) -> None:
    """Check that a network returns logits of the classes for images of this size.

    Args:
        model: network on the CPU.
        told: name of the network, for error messages.
        classes: number of classes.
        channels: number of image channels.
        size: image size in pixels.

    Raises:
        RiftError: it fails, or its logits have another shape.
    """
    images = torch.zeros(2, channels, size, size)
    try:
        with inference(model), torch.no_grad():
            shape = tuple(as_logits(model(images)).shape)
    except (Exception, SystemExit) as error:
        raise RiftError(
            f"{told}: the network fails on images of shape {tuple(images.shape)}: {_reason(error)}"
        ) from error
    if shape != (2, classes):
        raise RiftError(
            f"{told}: the network returns logits of shape {shape} for 2 images and {classes}"
            f" classes; they must have shape {(2, classes)}"
        )


def _made(name: str, told: str, arguments: tuple[int, ...]) -> nn.Module:
    """Return the network that a function of a file returns for the arguments.

    Raises:
        RiftError: the file cannot be imported, or the function fails or returns no network.
    """
    module, function = name.split(":")
    call = f"{function}({', '.join(map(str, arguments))})"
    # Code of the user can raise any exception, and may end the process.
    try:
        code = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise RiftError(f"{told}: cannot be imported: {_reason(error)}") from error
    if Path(code.__file__ or "").resolve() != code_file(name).resolve():
        raise RiftError(
            f"{told}: Python has another module {module}, {code.__file__ or 'built in'}; rename"
            " your file"
        )
    make = getattr(code, function, None)
    if not callable(make):
        raise RiftError(f"{told}: has no function {function}; write it, or correct the name")
    try:
        model = make(*arguments)
    except (Exception, SystemExit) as error:
        raise RiftError(f"{told}: {call} fails: {_reason(error)}") from error
    if not isinstance(model, nn.Module):
        raise RiftError(
            f"{told}: {call} returns {type(model).__name__}; it must return a torch.nn.Module"
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
