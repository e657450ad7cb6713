"""Outcomes of every image, clean and under PGD."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rift import attacks
from rift.config import Attack
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.modes import inference
from rift.progress import Progress, no_progress


def percent(outcomes: Tensor) -> float:
    """Return the share of true outcomes, in percent."""
    return 100 * outcomes.double().mean().item()


@contextmanager
def refuse_non_finite(model: nn.Module, source: str) -> Iterator[None]:
    """Raise an error if the network returns NaN or infinity in a pass that decides an outcome.

    Passes with gradients are skipped: the attack's result is checked in a later pass without.

    Args:
        model: whose passes are checked.
        source: name of the weights, for the message.

    Raises:
        RiftError: within, as soon as a pass returns such logits.
    """

    def check(_module: nn.Module, _given: object, logits: Tensor) -> None:
        if torch.is_grad_enabled() or bool(logits.isfinite().all()):
            return
        bad = int((~logits.isfinite()).any(1).sum())
        raise RiftError(
            f"{source}: the network returns logits that are not finite for {bad} of {len(logits)}"
            " images, so it can classify none of them; train or import the weights again"
        )

    hook = model.register_forward_hook(check)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def correct(model: nn.Module, data: Images, *, progress: Progress = no_progress) -> Tensor:
    """Return for every image whether the model, in eval mode, classifies it correctly: bool, N."""
    outcomes: list[Tensor] = []
    with inference(model):
        for batch in data.batches():
            outcomes.append(model(batch.floats()).argmax(1) == batch.labels)
            _report(progress, outcomes, data)
    return torch.cat(outcomes)


def withstands_pgd(
    model: nn.Module,
    data: Images,
    *,
    attack: Attack,
    restarts: int,
    generator: torch.Generator,
    progress: Progress = no_progress,
) -> Tensor:
    """Return for every image whether the model, in eval mode, withstands every restart of PGD: bool, N."""
    outcomes: list[Tensor] = []
    with inference(model):
        for batch in data.batches():
            adversarial = attacks.pgd(
                model,
                batch.floats(),
                batch.labels,
                **attack.model_dump(),
                restarts=restarts,
                generator=generator,
            )
            with torch.no_grad():
                outcomes.append(model(adversarial).argmax(1) == batch.labels)
            _report(progress, outcomes, data)
    return torch.cat(outcomes)


def _report(progress: Progress, outcomes: list[Tensor], data: Images) -> None:
    so_far = torch.cat(outcomes)
    progress(len(so_far), len(data), accuracy=100 * so_far.float().mean())
