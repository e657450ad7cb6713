"""Outcomes per image, on clean images and under PGD."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rift import attacks
from rift.config import Attack
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.folding import folded
from rift.models.modes import inference
from rift.models.requirements import PROBED, as_logits, require_classes
from rift.progress import Progress, no_progress


def percent(outcomes: Tensor) -> float:
    """Return the share of true outcomes, in percent.

    Args:
        outcomes: bool or 0 and 1, N.
    """
    return 100 * outcomes.double().mean().item()


@contextmanager
def refuse_non_finite(model: nn.Module, source: str) -> Iterator[None]:
    """Raise an error if the network returns NaN or infinity in a pass that decides an outcome.

    Passes with gradients are skipped, because a later pass without gradients checks the result of
    the attack.

    Args:
        model: network whose passes are checked within the context.
        source: name of the weights, for the message.

    Raises:
        RiftError: within the context, as soon as a pass returns such logits.
    """

    def check(_module: nn.Module, _given: object, output: object) -> None:
        if torch.is_grad_enabled() or bool((logits := as_logits(output)).isfinite().all()):
            return
        bad = int((~logits.isfinite()).any(1).sum())
        raise RiftError(
            f"{source}: the network returns logits that are not finite for {bad} of {len(logits)}"
            " images, so it cannot classify them; train or import the weights again"
        )

    hook = model.register_forward_hook(check)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def correct(model: nn.Module, data: Images, *, progress: Progress = no_progress) -> Tensor:
    """Return whether the model classifies each image correctly: bool, N.

    Args:
        model: returns logits for images in [0, 1]; it is in eval mode meanwhile.
        data: images and labels, on the device of the model.
        progress: called after every batch.

    Raises:
        RiftError: the model returns no logits, or too few for the labels.
    """
    outcomes: list[Tensor] = []
    highest = int(data.labels.max()) if len(data) else 0
    with inference(model), folded(model, data.up_to(PROBED).floats()):
        for batch in data.batches():
            logits = as_logits(model(batch.floats()))
            require_classes(logits, highest)
            outcomes.append(logits.argmax(1) == batch.labels)
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
    """Return whether the model classifies each image correctly after every restart of PGD: bool, N.

    Args:
        model: returns logits for images in [0, 1]; it is in eval mode meanwhile.
        data: images and labels, on the device of the model.
        attack: threat model and steps.
        restarts: number of random starts.
        generator: source of the random starts, on the same device.
        progress: called after every batch.

    Raises:
        RiftError: the model returns no logits, or too few for the labels.
    """
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
                outcomes.append(as_logits(model(adversarial)).argmax(1) == batch.labels)
            _report(progress, outcomes, data)
    return torch.cat(outcomes)


def _report(progress: Progress, outcomes: list[Tensor], data: Images) -> None:
    so_far = torch.cat(outcomes)
    progress(len(so_far), len(data), accuracy=100 * so_far.float().mean())
