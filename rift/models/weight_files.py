"""Weights from elsewhere: files of other programs, read safely and fitted to an architecture.

Nothing is run that stands in a file: pickles are read as tensors and plain values alone (``weights_only``).
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
# Where training scripts put the state dict, the most telling first.
NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
POSING = {
    b"<!doctype": "is a web page, not weights: open the link in a browser, and save the file that it offers",
    b"<html": "is a web page, not weights: open the link in a browser, and save the file that it offers",
    b"<?xml": "is a web page, not weights: open the link in a browser, and save the file that it offers",
    b"\x1f\x8b": "is a gzip archive: unpack it first",
    b"7z\xbc\xaf": "is a 7z archive: unpack it first",
    b"Rar!": "is a rar archive: unpack it first",
    b"\xfd7zXZ": "is an xz archive: unpack it first",
    b"BZh": "is a bzip2 archive: unpack it first",
    b"version https://git-lfs": "is a Git LFS pointer, not weights: run git lfs pull in its repository",
}
# Entries of the official WideResNet (TRADES, RiFT) that its forward pass never uses.
UNUSED = ("sub_block1.",)


@dataclass(frozen=True)
class Fitted:
    """A state dict with the names of an architecture.

    Attributes:
        state: its entries, float32 where they are floating point, without the normalisation.
        mean: of each channel as the file has it, or None where it holds no normalisation.
        std: likewise.
        prefix: what stood before the names.
        ignored: entries of the file that the network does not use.
    """

    state: State
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    prefix: str
    ignored: tuple[str, ...]


def read(path: Path, key: str | None = None) -> tuple[State, str]:
    """Read the state dict of a ``.pth``, ``.pt`` or ``.safetensors`` file, and say what it stands under in it.

    Args:
        path: the file.
        key: what the state dict stands under, if it is nested and there is more than one; dots lead further down.

    Raises:
        RiftError: the file is missing, no weights, damaged, or holds more than tensors and plain values.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise RiftError(f"{path}: cannot be read: {error.strerror}") from error
    for magic, what in POSING.items():
        # A safetensors file begins with a number, which may be any two of these bytes, and an opening brace.
        if head.lstrip().lower().startswith(magic.lower()) and head[8:9] != b"{":
            raise RiftError(f"{path}: {what}")
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
        raise RiftError(f"{path}: is damaged or no safetensors file ({error})") from error


def _pickled(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if not any(name.endswith("data.pkl") for name in archive.namelist()):
                raise RiftError(f"{path}: is a zip archive, not weights: unpack it first")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch says in many lines which object it refused.
        reason = next(
            (line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line),
            "",
        )
        raise RiftError(
            f"{path}: is not a file of tensors alone ({reason.strip() or 'its pickle cannot be read'}); what else stands in"
            " a pickle can run code, so it is not opened; save model.state_dict() where you trust it, and import that"
        ) from error
    except Exception as error:  # a damaged file fails in whatever part of it is read first
        raise RiftError(
            f"{path}: is damaged or not a file of torch.save ({first_line(error)})"
        ) from error


def _state_dict(content: Any, path: Path, key: str | None) -> tuple[State, str]:
    found = {name: state for name, state in _state_dicts(content) if not name.startswith("optim")}
    if key is not None:
        if key not in found:
            raise RiftError(
                f"{path}: holds no state dict under {key!r}; it has: {', '.join(found) or 'none'}"
            )
        return found[key], key
    if not found:
        raise RiftError(f"{path}: holds no state dict (found {type(content).__name__})")
    names = sorted(
        found,
        key=lambda name: NESTED_UNDER.index(name) if name in NESTED_UNDER else len(NESTED_UNDER),
    )
    if "" not in found and len(found) > 1 and names[0] not in NESTED_UNDER:
        raise RiftError(
            f"{path}: holds several state dicts; say which with key: {', '.join(found)}"
        )
    chosen = "" if "" in found else names[0]
    return found[chosen], chosen


def _state_dicts(content: Any, within: str = "") -> Iterator[tuple[str, State]]:
    """Find every mapping with tensors in it, by the keys that lead there."""
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if any(tensor.is_floating_point() and tensor.dim() > 1 for tensor in tensors.values()):
            yield within, tensors
        for name, value in content.items():
            yield from _state_dicts(value, f"{within}.{name}" if within else str(name))


def match_names(state: State, model: nn.Module, path: str) -> Fitted:
    """Give a foreign state dict the names of a network, and take its normalisation out.

    Prefixes of wrappers (``module.``, ``model.``, ``1.`` …) go; the mean and standard deviation of the wrapper's normalisation
    layer are recognised by their names and sizes.

    Args:
        state: as ``read`` returns it.
        model: made by ``rift.models.build``, whose names it must have.
        path: names the file in messages.

    Raises:
        RiftError: entries are missing, foreign, of another shape, or not finite.
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
            f"{path}: holds only one of mean and standard deviation of its normalisation"
        )
    ignored = tuple(name for name in around if name.startswith(UNUSED))
    foreign = {name: value for name, value in around.items() if name not in ignored}
    for name, value in expected.items():
        if name.endswith(
            "num_batches_tracked"
        ):  # a counter that old files lack, and that nothing here reads
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
            **foreign,
        },
        f"{path}: does not fit",
    )
    infinite = [name for name, value in fitted.items() if not torch.isfinite(value).all()]
    if infinite:
        raise RiftError(f"{path}: {infinite[0]} holds values that are not finite")
    return Fitted({name: fitted[name] for name in expected}, mean, std, prefix, ignored)


def load_into(model: nn.Module, fitted: Fitted) -> None:
    """Put the weights into a model that has its own normalisation."""
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
    """Settle what images go through before the network.

    Args:
        fitted: the weights.
        asked: what the user said.
        mean: of the data set.
        std: of the data set.
        path: names the file in messages.

    Returns:
        Mean, standard deviation, and where they are from: file, dataset or none.

    Raises:
        RiftError: the user did not say and the file does not either, or both did.
    """
    if fitted.mean is not None and fitted.std is not None:
        if asked is not None:
            raise RiftError(
                f"{path}: holds its own normalisation; leave normalization: {asked} away"
            )
        return fitted.mean, fitted.std, "file"
    if asked is None:
        raise RiftError(
            f"{path}: holds no normalisation; say with normalization: dataset or none whether the network wants images"
            " with the data set's mean and deviation taken out, or in [0, 1]"
        )
    return (
        (mean, std, asked) if asked == "dataset" else ((0.0,) * len(mean), (1.0,) * len(std), asked)
    )


def _prefix(state: State, expected: list[str]) -> str:
    """Find what stands before the names: the prefix under which most of them are found."""
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
    """Take a value a channel out of what stands around the network, if it is there."""
    for name in [*around]:
        if name.rsplit(".", 1)[-1] in names and around[name].numel() in (1, channels):
            return tuple(around.pop(name).flatten().expand(channels).double().tolist())
    return None
