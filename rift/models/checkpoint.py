"""Checkpoints: files with the weights of a model and the specification to rebuild it."""

from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rift.artifacts import Provenance, read_weights, write_weights
from rift.config import Architecture
from rift.config.outside import check_named, code_digest, is_outside
from rift.errors import RiftError
from rift.models import build


@dataclass(frozen=True)
class ModelSpec:
    """Arguments of ``rift.models.build``, which a checkpoint stores with the weights.

    Attributes:
        architecture: key of ``rift.models.architectures.ARCHITECTURES``, ``timm:NAME``
            or ``MODULE:FUNCTION``.
        classes: number of classes.
        size: image size in pixels.
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation of each channel, for images in [0, 1].
        enlarge: side in pixels to which the model enlarges the images; None if it does not.
    """

    architecture: Architecture
    classes: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    enlarge: int | None = None


def save(
    path: Path, state: dict[str, torch.Tensor], spec: ModelSpec, source: Provenance, **facts: object
) -> None:
    """Write a state dict and the specification of its model to a safetensors file.

    Args:
        path: file to write.
        state: state dict of the model.
        spec: specification of the model.
        source: provenance of the weights.
        **facts: further facts to store, as JSON values.

    Raises:
        RiftError: the file cannot be written.
    """
    write_weights(path, state, source, **facts_of(spec), **facts)


def facts_of(spec: ModelSpec) -> dict[str, Any]:
    """Return the facts in a file of weights from which ``load`` builds their model."""
    code = {"code": code_digest(spec.architecture)} if is_outside(spec.architecture) else {}
    described = asdict(spec)
    if spec.enlarge is None:
        # As in files of earlier versions.
        del described["enlarge"]
    return {"model": described, **code}


def load(path: Path, device: str | torch.device = "cpu") -> tuple[nn.Module, ModelSpec]:
    """Return the model in a checkpoint, in eval mode, and its specification.

    Args:
        path: file that ``save`` wrote.
        device: device of the returned model.

    Raises:
        RiftError: the file cannot be read, its specification has other entries than ``ModelSpec``,
            or its weights do not fit the architecture. The architecture is from outside, and the
            user has not named it, or its file is another one than the weights were made with.
    """
    state, facts = read_weights(path, ("model",))
    described = facts["model"]
    if not isinstance(described, dict):
        raise _damaged(path)
    known: dict[str, Any] = {
        name: tuple(fact) if isinstance(fact, list) else fact for name, fact in described.items()
    }
    if set(known) | {"enlarge"} != {field.name for field in fields(ModelSpec)}:
        raise RiftError(
            f"{path}: describes its model by {', '.join(known)}; it was written by another version"
            " of rift; delete it and run the stage that writes it"
        )
    spec = ModelSpec(**known)
    if not _is_well_typed(spec):
        raise _damaged(path)
    if is_outside(spec.architecture):
        check_named(spec.architecture, str(path))
        if code_digest(spec.architecture) != facts.get("code"):
            raise RiftError(
                f"{path}: the file of {spec.architecture} has changed since these weights were"
                " made; restore it, or make the weights again"
            )
    try:
        model = build(**asdict(spec))
    except RiftError as error:
        raise RiftError(f"{path}: {error}") from error
    load_state(model, state, f"{path}: weights are not those of {spec.architecture}")
    return model.to(device).eval(), spec


def _is_well_typed(spec: ModelSpec) -> bool:
    """Return whether a specification from a file has values that a model can have."""
    channels = (spec.mean, spec.std)
    counts = (spec.classes, spec.size, *(() if spec.enlarge is None else (spec.enlarge,)))
    return (
        isinstance(spec.architecture, str)
        and all(type(count) is int and 0 < count < 10**6 for count in counts)
        and all(isinstance(values, tuple) and values for values in channels)
        and len(spec.mean) == len(spec.std)
        and all(
            type(value) in (int, float) and isfinite(value)
            for values in channels
            for value in values
        )
        and all(value > 0 for value in spec.std)
    )


def _damaged(path: Path) -> RiftError:
    return RiftError(
        f"{path}: does not describe its model by an architecture, numbers of classes and pixels,"
        " means and deviations; delete it and run the stage that writes it"
    )


def load_state(model: nn.Module, state: dict[str, torch.Tensor], otherwise: str) -> None:
    """Load a state dict into a model after a check of all names and shapes.

    Args:
        model: model, changed in place.
        state: state dict with the same names and shapes as the model's.
        otherwise: beginning of the error message if the state dict does not fit.

    Raises:
        RiftError: entries are missing, unexpected, or have another shape; the message lists the
            first three.
    """
    expected = model.state_dict()
    differing = [
        *(f"{name} is missing" for name in expected if name not in state),
        *(f"{name} is unexpected" for name in state if name not in expected),
        *(
            f"{name} is {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in expected
            if name in state and state[name].shape != expected[name].shape
        ),
    ]
    if differing:
        more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RiftError(
            f"{otherwise}: {', '.join(differing[:3])}{more}; choose weights of the same"
            " architecture, number of classes and number of channels"
        )
    model.load_state_dict(state)
