"""Weight files from other programs: safe reading, and matching to an architecture.

Reading never runs code from a file: pickles may contain only tensors and plain values
(``weights_only``).
"""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rift.errors import RiftError, first_line
from rift.models.checkpoint import load_state
from rift.models.state import NORMALISATION, without_normalisation

State = dict[str, Tensor]
# Keys under which training scripts save the state dict, from the most to the least specific.
NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_WEB_PAGE = "is a web page, not weights: open the link in a browser and download the weights there"
# Messages for common files that do not contain weights, by their first bytes.
POSING = {
    b"<!doctype": _WEB_PAGE,
    b"<html": _WEB_PAGE,
    b"<?xml": _WEB_PAGE,
    b"\x1f\x8b": "is a gzip archive: unpack it first",
    b"7z\xbc\xaf": "is a 7z archive: unpack it first",
    b"Rar!": "is a rar archive: unpack it first",
    b"\xfd7zXZ": "is an xz archive: unpack it first",
    b"BZh": "is a bzip2 archive: unpack it first",
    b"version https://git-lfs": (
        "is a Git LFS pointer, not weights: run git lfs pull in the repository"
    ),
}
# Prefixes of entries that the official WideResNet (TRADES, RiFT) has but never uses.
UNUSED = ("sub_block1.",)


@dataclass(frozen=True)
class Fitted:
    """A state dict whose names match an architecture.

    Attributes:
        state: entries of the network without the normalisation, with the dtypes of the network.
        mean: mean of each channel in the file; None if the file contains no normalisation.
        std: standard deviation of each channel in the file; None if the file contains no
            normalisation.
        prefix: prefix that was removed from the names in the file.
        ignored: names of entries in the file that the network does not use.
    """

    state: State
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    prefix: str
    ignored: tuple[str, ...]


def read(path: Path, key: str | None = None) -> tuple[State, str]:
    """Return the state dict of a ``.pth``, ``.pt`` or ``.safetensors`` file, and its key.

    Args:
        path: file to read.
        key: key of the state dict in the file, with dots between nested keys; None searches for
            it.

    Returns:
        The state dict, and the key under which it was found; the key is empty if the state dict is
        not nested.

    Raises:
        RiftError: the file is missing, damaged or not a weight file; it contains more than tensors
            and plain values; it contains no state dict under the key; or no key was given and the
            file contains several state dicts, none of them under a common key.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise RiftError(
            f"{path}: cannot be read: {error.strerror}; check the path and its permissions"
        ) from error
    for magic, problem in POSING.items():
        # A safetensors file starts with 8 arbitrary bytes and an opening brace, so its first bytes
        # can match by chance.
        if head.lstrip().lower().startswith(magic.lower()) and head[8:9] != b"{":
            raise RiftError(f"{path}: {problem}")
    if head[257:262] == b"ustar":
        raise RiftError(f"{path}: is a tar archive: unpack it first")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    return _state_dict(content, path, key)


def _safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise RiftError(
            f"{path}: is damaged or not a safetensors file ({error}); download it again"
        ) from error


def _pickled(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if not any(name.endswith("data.pkl") for name in archive.namelist()):
                raise RiftError(f"{path}: is a zip archive, not weights: unpack it first")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message has many lines; only this one names the rejected object.
        reason = next(
            (line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line),
            "",
        )
        raise RiftError(
            f"{path}: does not contain only tensors"
            f" ({reason.strip() or 'its pickle cannot be read'}); other objects in a pickle can run"
            " code, so it is not opened; if you trust the file, load it in Python, save"
            " model.state_dict() and import that file"
        ) from error
    # The type of the exception depends on which part of the file is damaged.
    except Exception as error:
        raise RiftError(
            f"{path}: is damaged or not a file of torch.save ({first_line(error)}); download it"
            " again"
        ) from error


def _state_dict(content: Any, path: Path, key: str | None) -> tuple[State, str]:
    """Return the state dict in the content of a file, and its key.

    Raises:
        RiftError: there is no state dict under the key, no state dict at all, or no key to choose
            one of several.
    """
    found = {name: state for name, state in _state_dicts(content) if not name.startswith("optim")}
    if key is not None:
        if key not in found:
            raise RiftError(
                f"{path}: contains no state dict under {key!r}; set key to one of:"
                f" {', '.join(found) or 'none'}"
            )
        return found[key], key
    if not found:
        raise RiftError(
            f"{path}: contains no state dict (found {type(content).__name__}); save"
            " model.state_dict() and import that file"
        )
    names = sorted(
        found,
        key=lambda name: NESTED_UNDER.index(name) if name in NESTED_UNDER else len(NESTED_UNDER),
    )
    if "" not in found and len(found) > 1 and names[0] not in NESTED_UNDER:
        raise RiftError(
            f"{path}: contains several state dicts; set key to one of: {', '.join(found)}"
        )
    chosen = "" if "" in found else names[0]
    return found[chosen], chosen


def _state_dicts(content: Any, within: str = "") -> Iterator[tuple[str, State]]:
    """Yield the key and tensors of every mapping with weights; dots separate nested keys."""
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if any(tensor.is_floating_point() and tensor.dim() > 1 for tensor in tensors.values()):
            yield within, tensors
        for name, value in content.items():
            yield from _state_dicts(value, f"{within}.{name}" if within else str(name))


def match_names(state: State, model: nn.Module, path: str) -> Fitted:
    """Return a state dict renamed to match a model, and the normalisation in the file.

    Prefixes that wrappers add (``module.``, ``model.``, ``1.`` …) are removed. The mean and
    standard deviation of a normalisation layer are recognised by their names and sizes.

    Args:
        state: state dict from ``read``.
        model: model from ``rift.models.build`` that the state dict must fit; its names and shapes
            are compared.
        path: name of the file, for error messages.

    Raises:
        RiftError: entries are missing or unexpected, or have another shape; values are not finite;
            or the file contains only one of mean and standard deviation.
    """
    expected = without_normalisation(model.state_dict())
    prefix = _prefix(state, list(expected))
    inside = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    around = {name: value for name, value in state.items() if not name.startswith(prefix)}
    channels = len(model.get_buffer("normalize.mean"))
    around |= {name: inside.pop(name) for name in [*inside] if name not in expected}
    mean = _channels(around, ("mean", "mu"), channels)
    std = _channels(around, ("std", "sigma"), channels)
    if (mean is None) != (std is None):
        raise RiftError(
            f"{path}: contains only one of mean and standard deviation of the normalisation; add"
            " the other one, or remove both and set normalization"
        )
    ignored = tuple(name for name in around if name.startswith(UNUSED))
    unexpected = {name: value for name, value in around.items() if name not in ignored}
    for name, value in expected.items():
        # Files from old versions of torch lack this counter, which rift does not use.
        if name.endswith("num_batches_tracked"):
            inside.setdefault(name, torch.zeros_like(value))
    fitted = {
        name: value.to(expected[name].dtype if name in expected else value.dtype)
        for name, value in inside.items()
    }
    load_state(
        model,
        {
            **{name: model.state_dict()[name] for name in ("normalize.mean", "normalize.std")},
            **fitted,
            **unexpected,
        },
        f"{path}: does not fit",
    )
    infinite = [name for name, value in fitted.items() if not torch.isfinite(value).all()]
    if infinite:
        raise RiftError(
            f"{path}: {infinite[0]} contains values that are not finite; choose another checkpoint"
        )
    return Fitted({name: fitted[name] for name in expected}, mean, std, prefix, ignored)


def load_into(model: nn.Module, fitted: Fitted) -> None:
    """Load weights into a model without a change of the model's normalisation."""
    normalize = {
        name: value for name, value in model.state_dict().items() if name.startswith(NORMALISATION)
    }
    model.load_state_dict({**normalize, **fitted.state})


def normalization(
    fitted: Fitted,
    asked: Literal["dataset", "none"] | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    path: str,
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return the normalisation of imported weights.

    Args:
        fitted: weights, with the normalisation in their file.
        asked: normalisation that the user set, or None.
        mean: mean of each channel of the data set, for images in [0, 1].
        std: standard deviation of each channel of the data set, for images in [0, 1].
        path: name of the file, for error messages.

    Returns:
        Mean and standard deviation of each channel, and their origin: ``file``, ``dataset`` or
        ``none``.

    Raises:
        RiftError: the file and the user both give a normalisation, or neither does.
    """
    if fitted.mean is not None and fitted.std is not None:
        if asked is not None:
            raise RiftError(f"{path}: contains its own normalisation; omit normalization: {asked}")
        return fitted.mean, fitted.std, "file"
    if asked is None:
        raise RiftError(
            f"{path}: contains no normalisation; set normalization: dataset if the network takes"
            " images normalised with the mean and standard deviation of the data set, or none if it"
            " takes images in [0, 1]"
        )
    return (
        (mean, std, asked) if asked == "dataset" else ((0.0,) * len(mean), (1.0,) * len(std), asked)
    )


def _prefix(state: State, expected: list[str]) -> str:
    """Return the prefix under which a state dict contains the most expected names."""
    weights = [name for name in expected if name.endswith(".weight")]
    candidates = {
        name.removesuffix(weight)
        for weight in weights
        for name in state
        if name == weight or name.endswith(f".{weight}")
    }
    found = {prefix: sum(prefix + name in state for name in expected) for prefix in candidates}
    return max(sorted(found, key=len), key=lambda prefix: found[prefix], default="")


def _channels(around: State, names: tuple[str, ...], channels: int) -> tuple[float, ...] | None:
    """Remove an entry with one of the given names, and return its value for each channel.

    Only entries with one value, or one value per channel, count. Return None if there is none.
    """
    for name in [*around]:
        if name.rsplit(".", 1)[-1] in names and around[name].numel() in (1, channels):
            return tuple(around.pop(name).flatten().expand(channels).double().tolist())
    return None
