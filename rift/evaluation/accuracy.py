"""Outcomes per example on clean images and under PGD."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rift import attacks
from rift.config import Attack, Pgd
from rift.data.split import Split, in_order, to_float
from rift.errors import RiftError
from rift.evaluation.blocks import Keep, Shard, Work, deal, forget
from rift.models.modes import inference
from rift.progress import Progress, silent
from rift.seeds import generator as stream


def percent(outcomes: Tensor) -> float:
    """Share of true outcomes, in percent."""
    return 100 * outcomes.double().mean().item()


@contextmanager
def finite(model: nn.Module, source: str) -> Iterator[None]:
    """Refuse logits that are not finite, where they decide an outcome: the class of a NaN is none.

    Passes that gradients are taken of are not looked at: what an attack makes of them is decided in another pass.

    Args:
        model: whose passes are watched.
        source: names the weights, in the message.

    Raises:
        RiftError: within, as soon as a pass has given such logits.
    """

    def look(_module: nn.Module, _given: object, logits: Tensor) -> None:
        if torch.is_grad_enabled() or bool(logits.isfinite().all()):
            return
        bad = int((~logits.isfinite()).any(1).sum())
        raise RiftError(
            f"{source}: the network gives logits that are not finite for {bad} of {len(logits)} images: it can classify none of"
            " them; train or import the weights anew"
        )

    hook = model.register_forward_hook(look)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def correct(model: nn.Module, data: Split, progress: Progress = silent) -> Tensor:
    """Say of every image whether the model, in eval mode, classifies it correctly: bool, N."""
    outcomes: list[Tensor] = []
    with inference(model):
        for images, labels in in_order(data):
            outcomes.append(model(to_float(images)).argmax(1) == labels)
            _report(progress, outcomes, data)
    return torch.cat(outcomes)


def withstands_pgd(
    model: nn.Module,
    data: Split,
    attack: Attack,
    *,
    restarts: int,
    generator: torch.Generator,
    progress: Progress = silent,
) -> Tensor:
    """Say of every image whether the model, in eval mode, classifies it correctly after each PGD restart: bool, N."""
    outcomes: list[Tensor] = []
    with inference(model):
        for images, labels in in_order(data):
            adversarial = attacks.pgd(
                model, to_float(images), labels, **attack.model_dump(), restarts=restarts, generator=generator
            )
            with torch.no_grad():
                outcomes.append(model(adversarial).argmax(1) == labels)
            _report(progress, outcomes, data)
    return torch.cat(outcomes)


def attack(
    model: nn.Module,
    data: Split,
    threat: Attack,
    settings: Pgd,
    *,
    seed: int,
    shard: Shard = (1, 1),
    work: Work | None = None,
    keep: Keep = forget,
    progress: Progress = silent,
) -> Tensor:
    """Attack blocks of consecutive images with PGD, each from random starts of its own.

    Args:
        model: gives logits for images in [0, 1].
        data: images and labels, of all shards.
        threat: threat model and attack.
        settings: restarts, and the size of a block.
        seed: of the random starts, which depend on the block besides.
        shard: whose blocks are attacked.
        work: what an earlier call with the same arguments kept, to go on from it; it is moved along in place.
        keep: called after every block.
        progress: likewise.

    Returns:
        Fate of every image: int8, N, 0 if it fell, 1 if it withstood, or ``blocks.UNKNOWN`` if it belongs to another shard.
    """
    device = data.images.device
    work = work or Work.begin(len(data.labels), device)
    mine = deal(len(data.labels), settings.batch_size, shard)
    for block, part in mine[work.done :]:
        starts = stream(seed, f"evaluation, block {block}", device)
        images = Split(data.images[part], data.labels[part])
        work.fates[part] = withstands_pgd(model, images, threat, restarts=settings.restarts, generator=starts).to(
            torch.int8
        )
        work.done += 1
        keep(work)
        seen = work.fates[work.fates >= 0]
        progress(work.done, len(mine), accuracy=100 * seen.double().mean())
    return work.fates


def refuse_chance(outcomes: Tensor, classes: int, source: str) -> None:
    """Refuse a network that does not know the classes.

    Args:
        outcomes: of ``correct``.
        classes: how many there are.
        source: names the weights and how they were read, in the message.

    Raises:
        RiftError: the accuracy is within five standard errors of guessing.
    """
    chance = 1 / classes
    error = (chance * (1 - chance) / len(outcomes)) ** 0.5
    accuracy, least = percent(outcomes), 100 * (chance + 5 * error)
    if accuracy <= least:
        raise RiftError(
            f"{source}: classifies {accuracy:.2f}% of {len(outcomes)} images correctly, which may be chance"
            f" ({100 * chance:.2f}%, or by luck up to {least:.2f}%); another normalization, another data set, or not trained?"
        )


def trained_on(outcomes: Tensor, unseen: Tensor) -> bool:
    """Say whether a network knows some images better than others of the same kind, by more than four standard errors.

    Args:
        outcomes: of ``correct`` on images that it may have been trained on.
        unseen: on images that it has not been trained on.
    """
    known, unknown = outcomes.double().mean(), unseen.double().mean()
    share = torch.cat([outcomes, unseen]).double().mean()
    error = (share * (1 - share) * (1 / len(outcomes) + 1 / len(unseen))).sqrt()
    return bool(known - unknown > 4 * error)


def _report(progress: Progress, outcomes: list[Tensor], data: Split) -> None:
    so_far = torch.cat(outcomes)
    progress(len(so_far), len(data.labels), accuracy=100 * so_far.float().mean())
