"""Module robust criticality, MRC (Zhu et al. 2023, Definition 3.1).

MRC(i) = max over ‖Δθᵢ‖ₚ ≤ ε‖θᵢ‖ₚ of the robust loss at θ + Δθᵢ, minus the robust loss at θ, on adversarial
examples made against θ once and held fixed, batch norm in eval mode.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rift.attacks import pgd
from rift.config import Attack, Criticality
from rift.criticality.modules import measured_modules, measured_weight
from rift.criticality.search import examples_for
from rift.criticality.searches import SEARCHES
from rift.criticality.table import Measurement, ModuleCriticality, criticality_table
from rift.data.images import Images
from rift.models.modes import inference
from rift.progress import Progress, no_progress
from rift.seeds import generator


def adversarial_examples(
    model: nn.Module,
    data: Images,
    *,
    attack: Attack,
    seed: int,
    progress: Progress = no_progress,
) -> Tensor:
    """Attack every image once with PGD: float32 in [0, 1], N×C×H×W."""
    starts = generator(seed, "criticality", data.device)
    done: list[Tensor] = []
    for batch in data.batches():
        images = batch.floats()
        done.append(pgd(model, images, batch.labels, **attack.model_dump(), generator=starts))
        progress(sum(map(len, done)), len(data))
    return torch.cat(done)


def shard(names: Sequence[str], number: int, count: int) -> list[str]:
    """Return the modules of shard ``number`` (from 1) of ``count``: every count-th, since early ones take longer."""
    return list(names[number - 1 :: count])


def measure(
    model: nn.Module,
    adversarial: Tensor,
    labels: Tensor,
    modules: Iterable[str],
    *,
    settings: Criticality,
    seed: int,
    progress: Progress = no_progress,
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
    search = SEARCHES[settings.method]
    examples = examples_for(settings, model, adversarial, labels, balanced=search.balanced)
    with inference(model):
        base, found = search.run(examples, weights, settings, seed, progress)
    rows = list(found.values())
    kept = [
        row.correct.cpu().numpy() if row.correct is not None else np.zeros(0, bool) for row in rows
    ]
    return Measurement(
        [
            (
                name,
                "conv" if isinstance(known[name], nn.Conv2d) else "linear",
                weights[name].numel(),
            )
            for name in found
        ],
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
    *,
    settings: Criticality,
    seed: int,
    progress: Progress = no_progress,
) -> list[ModuleCriticality]:
    """Measure every convolution and linear layer: a record each, in the network's order. Arguments as of ``measure``."""
    modules = measured_modules(model)
    measured = measure(
        model, adversarial, labels, modules, settings=settings, seed=seed, progress=progress
    )
    return criticality_table(measured)
