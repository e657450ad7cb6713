"""Outcomes per example on clean images and under PGD."""

import torch
from torch import Tensor, nn

from rift import attacks
from rift.config import Attack
from rift.data.split import Split, in_order, to_float
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


def _report(progress: Progress, outcomes: list[Tensor], data: Split) -> None:
    so_far = torch.cat(outcomes)
    progress(len(so_far), len(data.labels), accuracy=100 * so_far.float().mean())
