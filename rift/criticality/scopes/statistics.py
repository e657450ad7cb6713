"""Batch norm's running statistics, recomputed (scopes ``statistics``, ``statistics-attacked``).

RiFT as published moves them to clean images while it fine-tunes a module. These scopes do nothing
else, so the difference is the part of its gain that is not fine-tuning.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks import pgd
from rift.criticality.rows import Table
from rift.data.augmentation import augment
from rift.data.images import Images
from rift.device import autocast
from rift.errors import RiftError
from rift.evaluation.accuracy import correct, percent
from rift.finetuning import Tuning
from rift.models.requirements import PROBED, as_logits, check_network
from rift.models.state import snapshot
from rift.seeds import generator
from rift.training.epoch import EpochState, cut_into_batches
from rift.training.history import Epoch, Trained
from rift.training.running_statistics import PooledStatistics


def no_module(_table: Table, _candidates: Table) -> list[str]:
    """Return no name: no weight is trained."""
    return []


def no_parameter(_model: nn.Module, _modules: Sequence[str]) -> list[nn.Parameter]:
    """Return no parameter."""
    return []


def recompute(
    model: nn.Module, _parameters: Sequence[nn.Parameter], tuning: Tuning, *, attacked: bool = False
) -> Trained:
    """Replace the running statistics by exact ones over one pass of the training images.

    Images, order, augmentation and batch size are those of fine-tuning, whose batch norm sees
    augmented images, too. As there, each batch norm receives images that earlier ones normalised by
    their batch. Mean and variance are pooled over all images. Dropout is off.

    Args:
        model: base, changed in place.
        tuning: images and settings; the sections ``finetune`` and ``augment`` apply, and ``attack``
            if the images are attacked.
        attacked: whether PGD attacks the images. It attacks the base, in eval mode.

    Returns:
        The new statistics, and a history of one row. Its training loss and accuracy are those of
        the pass.

    Raises:
        RiftError: the network has no batch norm with running statistics, or cannot be used.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    data, settings, work = tuning.data, tuning.settings.finetune, tuning.work
    check_network(model, data.take(slice(0, PROBED)).floats(), data.labels)
    model.eval()
    pooled = PooledStatistics(model)
    if not pooled.sums:
        raise RiftError(
            f"scope {'statistics-attacked' if attacked else 'statistics'!r}: the network has no"
            " batch norm with running statistics to recompute; remove the scope"
        )
    stream = generator(tuning.seed, "recomputed statistics", data.device)
    epoch = EpochState.begin(1, len(data), stream)
    if work.state is not None:
        epoch = _restore(work.state, pooled, stream, data.device)
    batches = cut_into_batches(epoch.order, settings.batch_size)
    for batch in batches[epoch.steps :]:
        images = augment(data.take(batch), tuning.settings.augment, stream)
        loss, logits = _pass(model, images, pooled, tuning, stream if attacked else None)
        epoch.steps += 1
        epoch.loss_sum += loss * len(batch)
        epoch.hits += (logits.argmax(1) == images.labels).sum()
        tuning.progress(epoch.steps / len(batches), 1, loss=loss)
        if work.is_due:
            work.save(_state(epoch, pooled, stream))
    pooled.write()
    accuracy = percent(correct(model, tuning.validation))
    row = Epoch(1, 0.0, epoch.loss, epoch.accuracy, accuracy)
    result = Trained(snapshot(model), [row], kept=1)
    tuning.after_epoch(result)
    return result


def _pass(
    model: nn.Module,
    images: Images,
    pooled: PooledStatistics,
    tuning: Tuning,
    starts: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Pass a batch, attacked if there are random starts, and return its mean loss and logits."""
    pixels, precision = images.floats(), tuning.settings.finetune.precision
    if starts is not None:
        attack = tuning.settings.attack.model_dump()
        with autocast(precision, pixels.device):
            pixels = pgd(model, pixels, images.labels, **attack, generator=starts)
    with torch.no_grad(), pooled.watching(), autocast(precision, pixels.device):
        logits = as_logits(model(pixels))
    return F.cross_entropy(logits, images.labels), logits


def _state(epoch: EpochState, pooled: PooledStatistics, stream: torch.Generator) -> dict[str, Any]:
    return {"epoch": vars(epoch).copy(), "sums": pooled.sums, "random": stream.get_state()}


def _restore(
    state: dict[str, Any], pooled: PooledStatistics, stream: torch.Generator, device: torch.device
) -> EpochState:
    """Continue the pooled statistics and random numbers of a state, and return its epoch."""
    stream.set_state(state["random"])
    for name, sums in pooled.sums.items():
        for part, value in sums.items():
            value.copy_(state["sums"][name][part])
    return EpochState.restore(state["epoch"], device)
