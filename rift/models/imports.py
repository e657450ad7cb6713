"""Bases from elsewhere: weights of a file or of RobustBench's zoo, in a network of ours."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from rift.config import ROBUSTBENCH, Base
from rift.models import build, foreign, zoo
from rift.models.checkpoint import ModelSpec


def import_base(
    base: Base, like: ModelSpec, dataset: str, images: Tensor
) -> tuple[nn.Module, ModelSpec, dict[str, Any]]:
    """Build a network with weights from elsewhere.

    Args:
        base: where they are from, and what the user says of their normalisation.
        like: the network that is wanted, with the mean and standard deviation of the data set.
        dataset: name of the data set, which RobustBench's zoo is sorted by.
        images: some images, float32 in [0, 1], that a network of the zoo must treat alike here and there.

    Returns:
        The model in eval mode, its specification, and what was found in the file.

    Raises:
        RiftError: the weights cannot be read, do not fit, or say nothing of their normalisation where nobody else does.
    """
    said: Literal["dataset", "none"] | None
    what = f"{base.weights}: as {like.architecture}"
    model = build(**asdict(like))
    if base.weights.startswith(ROBUSTBENCH):
        reference = zoo.load_robustbench(base.weights.removeprefix(ROBUSTBENCH), dataset)
        fitted, key = foreign.fit(reference.state_dict(), model, what), ""
        # The zoo's networks take images in [0, 1]; whatever else they do is part of them.
        said = "none" if fitted.mean is None else None
    else:
        reference = None
        state, key = foreign.read(Path(base.weights), base.key)
        fitted, said = foreign.fit(state, model, what), base.normalization
    mean, std, origin = foreign.normalization(fitted, said, like.mean, like.std, base.weights)
    spec = ModelSpec(like.architecture, like.classes, like.size, mean, std)
    model = build(**asdict(spec)).eval()
    foreign.fill(model, fitted)
    if reference is not None:
        zoo.check_same(model, reference, images, what)
    facts = {
        "key": key,
        "prefix": fitted.prefix,
        "ignored": fitted.ignored,
        "normalization": {"from": origin, "mean": mean, "std": std},
    }
    return model, spec, facts


def otherwise_normalized(model: nn.Module, spec: ModelSpec, like: ModelSpec) -> nn.Module:
    """Build the same network behind the normalisation that it was not said to have: none, or that of the data set."""
    none = ModelSpec(spec.architecture, spec.classes, spec.size, (0.0,) * len(spec.mean), (1.0,) * len(spec.std))
    other = like if (spec.mean, spec.std) == (none.mean, none.std) else none
    built = build(**asdict(other)).eval()
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("normalize.")}
    built.load_state_dict({**built.state_dict(), **state})
    return built.to(next(iter(state.values())).device)
