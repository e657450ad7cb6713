"""Outcomes per example on clean images and under PGD."""

import torch
from torch import Tensor, nn

from rift import attacks
from rift.config import Attack
from rift.data.split import Split, in_order, to_float
from rift.errors import RiftError
from rift.models.modes import inference
from rift.progress import Progress, silent


def percent(outcomes: Tensor) -> float:
    """Share of true outcomes, in percent."""
    return 100 * outcomes.double().mean().item()


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
