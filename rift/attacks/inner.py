"""The attacks that training images go through (the inner maximisation), by name.

Add yours to ``INNER`` and its name to ``rift.config.InnerName``.

All take the model in eval mode, images in [0, 1], the objective that they raise, and noise of the images' shape that they begin
with: it is drawn outside, for a whole batch, so that processes that share a batch attack it as one would.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rift.attacks.ascent import Objective, ascend
from rift.config import Attack, Inner, InnerName

SPREAD = 0.001  # deviation of TRADES' normal start, in pixel values


@dataclass(frozen=True)
class InnerAttack:
    """Settings of an inner attack, nothing left open; lengths in pixel values."""

    method: InnerName
    start: Literal["uniform", "normal"]
    eps: float
    step: float
    steps: int


def resolve(settings: Inner, attack: Attack) -> InnerAttack:
    """Fill in what the settings leave open: by the threat model, and the step of the single-step attacks by their authors."""
    eps = settings.eps or attack.eps
    steps = {"pgd": attack.step, "fgsm-rs": 1.25 * eps, "n-fgsm": eps}
    return InnerAttack(
        settings.method,
        settings.start,
        eps,
        settings.step or steps[settings.method],
        settings.steps or attack.steps,
    )


def draw_noise(images: Tensor, attack: InnerAttack, generator: torch.Generator) -> Tensor:
    """Draw the noise that an attack begins with: U(−1, 1), or N(0, 1) where the start is normal."""
    if attack.method == "pgd" and attack.start == "normal":
        return torch.randn(images.shape, generator=generator, device=images.device)
    return 2 * torch.rand(images.shape, generator=generator, device=images.device) - 1


def pgd(
    model: nn.Module, images: Tensor, objective: Objective, noise: Tensor, attack: InnerAttack
) -> Tensor:
    """Take several steps from a random start within the ball (Madry et al. 2018; Zhang et al. 2019 with a normal start)."""
    lower, upper = (images - attack.eps).clamp(min=0), (images + attack.eps).clamp(max=1)
    point = (images + noise * (SPREAD if attack.start == "normal" else attack.eps)).clamp(
        lower, upper
    )
    return ascend(model, point, lower, upper, objective, step=attack.step, steps=attack.steps)


def fgsm_rs(
    model: nn.Module, images: Tensor, objective: Objective, noise: Tensor, attack: InnerAttack
) -> Tensor:
    """Take one step from a uniform start, and back into the ball (FGSM-RS, Wong et al. 2020)."""
    lower, upper = (images - attack.eps).clamp(min=0), (images + attack.eps).clamp(max=1)
    point = (images + noise * attack.eps).clamp(lower, upper)
    return ascend(model, point, lower, upper, objective, step=attack.step, steps=1)


def n_fgsm(
    model: nn.Module, images: Tensor, objective: Objective, noise: Tensor, attack: InnerAttack
) -> Tensor:
    """Take one step from noise of twice the radius, not back into the ball (N-FGSM, de Jorge et al. 2022)."""
    black, white = images.new_zeros(()), images.new_ones(())
    point = (images + noise * 2 * attack.eps).clamp(black, white)
    return ascend(model, point, black, white, objective, step=attack.step, steps=1)


INNER: dict[InnerName, Callable[[nn.Module, Tensor, Objective, Tensor, InnerAttack], Tensor]] = {
    "pgd": pgd,
    "fgsm-rs": fgsm_rs,
    "n-fgsm": n_fgsm,
}
