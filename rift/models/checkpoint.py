"""Models as artifacts: weights with what is needed to rebuild the model around them."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rift.artifacts import Provenance, read_weights, write_weights
from rift.config import Architecture
from rift.errors import RiftError
from rift.models import build


@dataclass(frozen=True)
class ModelSpec:
    """What ``rift.models.build`` needs, besides the weights."""

    architecture: Architecture
    classes: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def save(
    path: Path, state: dict[str, torch.Tensor], spec: ModelSpec, source: Provenance, **facts: object
) -> None:
    """Write a state dict, its specification, and what else there is to say of it (JSON values)."""
    write_weights(path, state, source, model=asdict(spec), **facts)


def load(path: Path, device: str | torch.device = "cpu") -> tuple[nn.Module, ModelSpec]:
    """Rebuild a model from its file, in eval mode.

    Raises:
        RiftError: the file cannot be read, names no model that can be built, or its weights are those of another architecture.
    """
    state, facts = read_weights(path, ("model",))
    known: dict[str, Any] = {
        name: tuple(fact) if isinstance(fact, list) else fact
        for name, fact in facts["model"].items()
    }
    if set(known) != {field.name for field in fields(ModelSpec)}:
        raise RiftError(
            f"{path}: describes its model by {', '.join(known)}; it was written by another version of rift"
        )
    spec = ModelSpec(**known)
    try:
        model = build(**asdict(spec))
    except RiftError as error:
        raise RiftError(f"{path}: {error}") from error
    load_state(model, state, f"{path}: weights are not those of {spec.architecture}")
    return model.to(device).eval(), spec


def load_state(model: nn.Module, state: dict[str, torch.Tensor], otherwise: str) -> None:
    """Load a state dict whole, or say how it differs.

    Raises:
        RiftError: ``otherwise``, and the first entries that are missing, foreign or of another shape.
    """
    expected = model.state_dict()
    differing = [
        *(f"{name} is missing" for name in expected if name not in state),
        *(f"{name} is foreign" for name in state if name not in expected),
        *(
            f"{name} is {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in expected
            if name in state and state[name].shape != expected[name].shape
        ),
    ]
    if differing:
        more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RiftError(f"{otherwise}: {', '.join(differing[:3])}{more}")
    model.load_state_dict(state)
