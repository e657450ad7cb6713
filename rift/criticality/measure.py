"""Module robust criticality, MRC (Zhu et al. 2023, Definition 3.1).

MRC(i) = max over ‖Δθᵢ‖ₚ ≤ ε‖θᵢ‖ₚ of the robust loss at θ + Δθᵢ, minus the robust loss at θ. The
robust loss is the mean cross-entropy of adversarial examples, with batch norm in eval mode. The
examples are made once against θ and then held fixed.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rift.attacks import pgd
from rift.config import Attack, Criticality
from rift.criticality.modules import (
    check_measurable,
    measurable_modules,
    measured_modules,
    measured_weight,
    with_plain_weights,
)
from rift.criticality.search import examples_for
from rift.criticality.searches import SEARCHES
from rift.criticality.table import Measurement, ModuleCriticality, criticality_table
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.modes import eager, inference
from rift.models.requirements import PROBED, as_class_labels, check_network, unwrapped
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
    """Return every image after one PGD attack: float32 in [0, 1], N×C×H×W.

    Args:
        model: network that is attacked.
        data: images and labels, on the device of the model.
        attack: threat model and steps of PGD.
        seed: seed of the random starts.
        progress: called after every batch.

    Raises:
        RiftError: the network cannot be used; the message says why.
    """
    model = unwrapped(model)
    check_network(model, data.take(slice(0, PROBED)).floats(), data.labels)
    starts = generator(seed, "criticality", data.device)
    done: list[Tensor] = []
    for batch in data.batches():
        images = batch.floats()
        done.append(pgd(model, images, batch.labels, **attack.model_dump(), generator=starts))
        progress(sum(map(len, done)), len(data))
    return torch.cat(done)


def shard(names: Sequence[str], number: int, count: int) -> list[str]:
    """Return the modules of one shard: every ``count``-th module.

    Early modules take longer, so consecutive modules go to different shards.

    Args:
        names: names of all modules in the network's order.
        number: number of the shard, from 1.
        count: number of shards.
    """
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
    """Return the measurement of some modules.

    Args:
        model: network with the weights θ; it is restored. Batch norm is in eval mode.
        adversarial: adversarial examples against θ (``adversarial_examples``), float32 in [0, 1],
            N×C×H×W.
        labels: integers ≥ 0, N.
        modules: names from ``measurable_modules``.
        settings: search and its settings; the caller applies ``split``, ``images`` and ``shards``.
        seed: seed of the random starts.
        progress: called after every pass.

    Raises:
        RiftError: the network cannot be used, or one of the modules cannot be measured; the message
            says why.
    """
    model, labels, modules = unwrapped(model), as_class_labels(labels), list(modules)
    check_network(model, adversarial, labels)
    if not modules:
        raise RiftError("no module to measure was named; pass names from measurable_modules")
    model = with_plain_weights(model)
    check_measurable(model, adversarial, modules)
    known = measured_modules(model)
    weights = {name: measured_weight(known[name]) for name in modules}
    search = SEARCHES[settings.method]
    examples = examples_for(settings, model, adversarial, labels, balanced=search.balanced)
    with inference(model), eager(model):
        base, rises = search.run(examples, weights, settings, seed, progress)
    rows = list(rises.values())
    kept = [
        row.correct.cpu().numpy() if row.correct is not None else np.zeros(0, bool) for row in rows
    ]
    return Measurement(
        [
            (
                name,
                "linear" if isinstance(known[name], nn.Linear | nn.MultiheadAttention) else "conv",
                weights[name].numel(),
            )
            for name in rises
        ],
        base.losses.cpu().numpy(),
        base.correct.cpu().numpy(),
        rows[0].images.cpu().numpy(),
        np.stack([row.rises.cpu().numpy() for row in rows]),
        np.stack(kept),
        {name: row.place for name, row in rises.items()},
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
    """Measure every convolution and linear layer, and return one row per layer.

    The rows are in the network's order. Layers that cannot be measured have no row, and a note to
    ``progress`` names them. The arguments are those of ``measure``.

    Raises:
        RiftError: the network cannot be used, or has no module that can be measured.
    """
    labels = as_class_labels(labels)
    check_network(unwrapped(model), adversarial, labels)
    modules = measurable_modules(model, adversarial)
    if modules.note:
        progress(0, len(modules.names), modules.note)
    measured = measure(
        model, adversarial, labels, modules.names, settings=settings, seed=seed, progress=progress
    )
    return criticality_table(measured)
