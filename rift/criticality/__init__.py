"""Module robust criticality, MRC (Zhu et al. 2023, Definition 3.1).

MRC(i) = max over ‖Δθᵢ‖ₚ ≤ ε‖θᵢ‖ₚ of the robust loss at θ + Δθᵢ, minus the robust loss at θ, on adversarial examples made
against θ once and held fixed, batch norm in eval mode. ``methods`` search for the maximum, over a network of which one weight
moves (``moving``) and whose part before that weight is computed once (``prefix``); ``table`` sums up.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rift.attacks import pgd
from rift.config import Attack, Criticality
from rift.criticality.methods import METHODS, examples_for
from rift.criticality.table import Measurement, ModuleCriticality, criticality_table, join
from rift.data.split import Split, in_order, to_float
from rift.models.modes import inference
from rift.progress import Progress, silent
from rift.seeds import generator

__all__ = [
    "Measurement",
    "ModuleCriticality",
    "adversarial_examples",
    "criticality_table",
    "join",
    "measure",
    "measured_modules",
    "measured_weight",
    "module_robust_criticality",
    "shard",
]


def measured_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return every convolution and linear layer by its name, in the network's order.

    torch's own attention holds the projections to query, key and value as a bare parameter: it stands for them under its own
    name, before its ``out_proj``. (Where key or value differ in width from the query, it holds three, which are not measured.)
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        or (isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None)
    }


def measured_weight(module: nn.Module) -> nn.Parameter:
    """Return the weight of a measured module."""
    return module.get_parameter("in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight")


def adversarial_examples(
    model: nn.Module, data: Split, attack: Attack, seed: int, progress: Progress = silent
) -> Tensor:
    """Attack every image once with PGD: float32 in [0, 1], N×C×H×W."""
    starts = generator(seed, "criticality", data.images.device)
    done: list[Tensor] = []
    for images, labels in in_order(data):
        done.append(pgd(model, to_float(images), labels, **attack.model_dump(), generator=starts))
        progress(sum(map(len, done)), len(data.labels))
    return torch.cat(done)


def shard(names: Sequence[str], number: int, count: int) -> list[str]:
    """Return the modules of shard ``number`` (from 1) of ``count``: every count-th, since early ones take longer."""
    return list(names[number - 1 :: count])


def measure(
    model: nn.Module,
    adversarial: Tensor,
    labels: Tensor,
    settings: Criticality,
    seed: int,
    modules: Iterable[str],
    progress: Progress = silent,
) -> Measurement:
    """Measure some modules.

    Args:
        model: weights θ; it is as before afterwards. Batch norm stays in eval mode.
        adversarial: examples made against θ once (``adversarial_examples``) and held fixed, float32 in [0, 1], N×C×H×W.
        labels: N.
        settings: all but ``split``, ``images`` and ``shards``, which are the caller's.
        seed: of random starts.
        modules: names out of ``measured_modules``.
        progress: called after each pass.
    """
    known = measured_modules(model)
    weights = {name: measured_weight(known[name]) for name in modules}
    examples = examples_for(settings, model, adversarial, labels)
    with inference(model):
        base, found = METHODS[settings.method](examples, weights, settings, seed, progress)
    rows = list(found.values())
    kept = [row.correct.cpu().numpy() if row.correct is not None else np.zeros(0, bool) for row in rows]
    return Measurement(
        [(name, "conv" if isinstance(known[name], nn.Conv2d) else "linear", weights[name].numel()) for name in found],
        base.losses.cpu().numpy(),
        base.correct.cpu().numpy(),
        rows[0].images.cpu().numpy(),
        np.stack([row.rises.cpu().numpy() for row in rows]),
        np.stack(kept),
    )


def module_robust_criticality(
    model: nn.Module,
    adversarial: Tensor,
    labels: Tensor,
    settings: Criticality,
    seed: int = 0,
    progress: Progress = silent,
) -> list[ModuleCriticality]:
    """Measure every convolution and linear layer: a record each, in the network's order. Arguments as of ``measure``."""
    return criticality_table(measure(model, adversarial, labels, settings, seed, measured_modules(model), progress))
