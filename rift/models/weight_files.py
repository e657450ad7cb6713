"""Weight files from other programs: their state dicts, and matching to an architecture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rift.config.normalization import NORMALIZATIONS, mean_and_std
from rift.errors import RiftError
from rift.models.checkpoint import load_state
from rift.models.state import NORMALISATION, without_normalisation
from rift.models.weight_content import load_content

State = dict[str, Tensor]
# Keys under which training scripts save the state dict, from the most to the least specific.
NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
# Prefixes of entries that the official WideResNet (TRADES, RiFT) has but never uses.
UNUSED = ("sub_block1.",)


# Words in the first part of names of losses and metrics, which scripts save in the state dict.
BESIDE_NETWORK = {"criterion", "loss", "losses", "metric", "metrics", "acc", "accuracy"}
# First letters of words in names of averaged weights beside those of the last step.
AVERAGED = ("ema", "swa", "averag", "avg", "shadow", "teacher")


class Read(NamedTuple):
    """A state dict in a file.

    Attributes:
        state: the state dict.
        key: key under which it was found; empty if it is not nested.
        others: keys of other state dicts in the file.
    """

    state: State
    key: str
    others: tuple[str, ...]


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
        others: prefixes of other complete sets of weights in the state dict, such as averaged ones.
    """

    state: State
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    prefix: str
    ignored: tuple[str, ...]
    others: tuple[str, ...] = ()


def read(path: Path, key: str | None = None) -> Read:
    """Return the state dict of a file of torch.save or safetensors.

    Args:
        path: file to read.
        key: key of the state dict in the file, with dots between nested keys, or the first parts of
            the names of one set of weights in a state dict; None searches for it.

    Raises:
        RiftError: the file is missing, damaged or not a weight file; it contains more than tensors
            and plain values; it contains no state dict under the key; or no key was given and the
            file contains several state dicts, none of them under a common key.
    """
    return _state_dict(load_content(path), path, key)


def _state_dict(content: Any, path: Path, key: str | None) -> Read:
    """Return the state dict in the content of a file.

    Raises:
        RiftError: there is no state dict under the key, no state dict at all, or no key to choose
            one of several.
    """
    found = {name: state for name, state in _state_dicts(content) if not name.startswith("optim")}
    if key is not None:
        return _under(found, path, key)
    if not found:
        raise RiftError(
            f"{path}: contains no state dict (found {type(content).__name__}); save"
            " model.state_dict() and import that file"
        )
    common = [name for name in NESTED_UNDER if name in found]
    # Tensors beside a state dict, such as a confusion matrix, are fewer than those inside.
    if "" in found and not any(len(found[name]) > len(found[""]) for name in common):
        chosen = ""
    elif common or len(found) == 1:
        chosen = next(iter(common or found))
    else:
        raise RiftError(
            f"{path}: contains several state dicts; set key to one of: {', '.join(found)}"
        )
    return Read(found[chosen], chosen, tuple(name for name in found if name not in ("", chosen)))


def _under(found: Mapping[str, State], path: Path, key: str) -> Read:
    """Return the state dict under a key, or the entries of a state dict that begin with it.

    Raises:
        RiftError: there are none.
    """
    others = tuple(name for name in found if name not in ("", key))
    if key in found:
        return Read(found[key], key, others)
    for within, state in found.items():
        inside = key.removeprefix(f"{within}.") if within else key
        entries = {
            name.removeprefix(f"{inside}."): value
            for name, value in state.items()
            if name.startswith(f"{inside}.")
        }
        if entries:
            return Read(entries, key, others)
    raise RiftError(
        f"{path}: contains no state dict under {key!r}; set key to one of:"
        f" {', '.join(filter(None, found)) or 'none'}"
    )


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
    prefix, others = _prefix(state, list(expected), path)
    inside = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    around = {name: value for name, value in state.items() if not name.startswith(prefix)}
    channels = len(model.get_buffer("normalize.mean"))
    around |= {name: inside.pop(name) for name in [*inside] if name not in expected}
    _check_values(inside | around, expected, path)
    mean = _channels(around, ("mean", "mu", "new_mean"), channels, path)
    std = _channels(around, ("std", "sigma", "new_std"), channels, path)
    if (mean is None) != (std is None):
        raise RiftError(
            f"{path}: contains only one of mean and standard deviation of the normalisation; add"
            " the other one, or remove both and set normalization"
        )
    copies = tuple(other + name for other in others for name in expected)
    ignored = tuple(
        name for name, value in around.items() if name in copies or _is_beside(name, value, prefix)
    )
    unexpected = {name: value for name, value in around.items() if name not in ignored}
    for name, value in expected.items():
        # Files from old versions of torch lack this counter, which rift does not use.
        if name.endswith("num_batches_tracked"):
            inside.setdefault(name, torch.zeros_like(value))
    fitted = {name: value.to(expected[name].dtype) for name, value in inside.items()}
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
    values = {name: fitted[name] for name in expected}
    return Fitted(values, mean, std, prefix, ignored, _different(state, values, others))


def load_into(model: nn.Module, fitted: Fitted) -> None:
    """Load weights into a model without a change of the model's normalisation."""
    normalize = {
        name: value for name, value in model.state_dict().items() if name.startswith(NORMALISATION)
    }
    model.load_state_dict({**normalize, **fitted.state})


def normalization(
    fitted: Fitted,
    asked: str | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    path: str,
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return the normalisation of imported weights.

    Args:
        fitted: weights, with the normalisation in their file.
        asked: normalisation that the user set (``rift.config.Normalization``), or None.
        mean: mean of each channel of the data set, for images in [0, 1].
        std: standard deviation of each channel of the data set, for images in [0, 1].
        path: name of the file, for error messages.

    Returns:
        Mean and standard deviation of each channel, and their origin: ``file``, or ``asked``.

    Raises:
        RiftError: the file and the user give different normalisations, or neither gives one, or it
            is for another number of channels.
    """
    if fitted.mean is not None and fitted.std is not None:
        if asked is not None:
            said = (mean, std) if asked == "dataset" else mean_and_std(asked, len(mean))
            # Some files have rounded values.
            if not np.allclose(said, (fitted.mean, fitted.std), rtol=0, atol=1e-3):
                raise RiftError(
                    f"{path}: contains its own normalisation, and it is not {asked}; omit"
                    f" normalization: {asked}"
                )
        return fitted.mean, fitted.std, "file"
    if asked is None:
        raise RiftError(
            f"{path}: contains no normalisation; say with which one the network was trained"
            " (--normalization, or normalization: in an experiment file): dataset for the mean and"
            " standard deviation of the data set, none for images in [0, 1]; also"
            f" {', '.join([*NORMALIZATIONS][:-1])}, or MEANS/DEVIATIONS in numbers"
        )
    return (mean, std, asked) if asked == "dataset" else (*mean_and_std(asked, len(mean)), asked)


def _check_values(state: State, expected: Mapping[str, Tensor], path: str) -> None:
    """Check that tensors contain plain numbers in memory, and weights floating-point numbers.

    Raises:
        RiftError: a tensor is sparse, quantised, on torch's meta device, or of another type.
    """
    for name, value in state.items():
        problem = None
        if value.is_meta:
            problem = "is on the meta device and has no values; save the network after loading it"
        elif value.layout != torch.strided or value.is_nested:
            problem = "is not a dense tensor; save to_dense() of it"
        elif value.is_quantized:
            problem = "is quantised; save dequantize() of it"
        elif name in expected and expected[name].is_floating_point() != value.is_floating_point():
            problem = f"is {value.dtype} instead of {expected[name].dtype}; save it in that type"
        if problem:
            raise RiftError(f"{path}: {name} {problem}")


def _is_beside(name: str, value: Tensor, prefix: str) -> bool:
    """Return whether an entry that the network does not have cannot change its logits.

    These are blocks that are never used, counters, and losses and metrics beside the network.
    """
    if name.startswith(UNUSED):
        return True
    counter = not value.is_floating_point() and not value.is_complex()
    if counter and not name.endswith(("num_batches_tracked", "weight", "bias")):
        return True
    return bool(prefix) and bool(BESIDE_NETWORK & {*_words(name.split(".")[0])})


def _prefix(state: State, expected: list[str], path: str) -> tuple[str, list[str]]:
    """Return the prefix under which a state dict contains the most expected names, and all equal.

    Returns:
        The prefix, and other prefixes under which there are as many names. Averaged weights come
        after those of the last step, and longer prefixes after shorter ones.

    Raises:
        RiftError: two sets of weights are equally likely, and differ.
    """
    weights = [name for name in expected if name.endswith(".weight")]
    candidates = {
        name.removesuffix(weight)
        for weight in weights
        for name in state
        if name == weight or name.endswith(f".{weight}")
    }
    found = {prefix: sum(prefix + name in state for name in expected) for prefix in candidates}
    most = max(found.values(), default=0)
    equal = sorted(
        (prefix for prefix, count in found.items() if count == most),
        key=lambda prefix: (_is_averaged(prefix), len(prefix), prefix),
    )
    if not equal:
        return "", []
    chosen, others = equal[0], equal[1:]
    values = {name: state[chosen + name] for name in expected if chosen + name in state}
    rivals = [prefix for prefix in _different(state, values, others) if not _is_averaged(prefix)]
    if rivals and chosen:
        names = ", ".join(prefix.removesuffix(".") for prefix in (chosen, *rivals))
        raise RiftError(f"{path}: contains several sets of weights; set key to one of: {names}")
    return chosen, others


def _is_averaged(prefix: str) -> bool:
    return any(word.startswith(AVERAGED) for word in _words(prefix))


def _words(name: str) -> list[str]:
    """Return the words of a name, in lower case."""
    return name.lower().replace("_", ".").split(".")


def _different(state: State, values: State, prefixes: list[str]) -> tuple[str, ...]:
    """Return the prefixes under which a state dict contains other values, without the last dot."""
    return tuple(
        prefix.removesuffix(".")
        for prefix in prefixes
        if any(
            prefix + name in state and not torch.equal(state[prefix + name].to(value.dtype), value)
            for name, value in values.items()
            if not state[prefix + name].is_meta and state[prefix + name].layout == torch.strided
        )
    )


def _channels(
    around: State, names: tuple[str, ...], channels: int, path: str
) -> tuple[float, ...] | None:
    """Remove the entries with one of the given names, and return their value for each channel.

    Only entries with one value, or one value per channel, count. Return None if there is none.

    Raises:
        RiftError: two entries differ.
    """
    values: dict[tuple[float, ...], str] = {}
    for name in [*around]:
        if name.rsplit(".", 1)[-1] in names and around[name].numel() in (1, channels):
            value = around.pop(name).flatten().expand(channels).double()
            values.setdefault(tuple(value.tolist()), name)
    if len(values) > 1:
        raise RiftError(
            f"{path}: {' and '.join(values.values())} are different normalisations; remove one"
        )
    return next(iter(values), None)
