"""Attacks on training images (the inner maximisation), by name.

To add one, write its function here, and add it to ``INNER`` and its name to
``rift.config.names.InnerName``.

Every attack takes the model in eval mode, images in [0, 1] (N×C×H×W), and the objective that it
raises. It also takes noise of the shape of the images, which the caller draws for a whole batch.
Processes that share the batch therefore make the same attack as a single process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rift.attacks.ascent import Objective, ascend
from rift.config import Attack, Inner, InnerName

SPREAD = 0.001
"""Standard deviation of the normal start of TRADES, in pixel values."""


@dataclass(frozen=True)
class InnerAttack:
    """Complete settings of an inner attack.

    Attributes:
        method: name of the attack.
        start: distribution of the random start; only ``pgd`` reads it.
        eps: radius of the Linf ball, in pixel values.
        step: length of a step, in pixel values.
        steps: number of steps; the single-step attacks ignore it.
    """

    method: InnerName
    start: Literal["uniform", "normal"]
    eps: float
    step: float
    steps: int


def resolve(settings: Inner, attack: Attack) -> InnerAttack:
    """Return the settings with all omitted values filled in.

    The threat model gives the radius, and step and number of steps of ``pgd``. The step of a
    single-step attack is its authors': 1.25·ε for ``fgsm-rs``, ε for ``n-fgsm``.
    """
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
    """Return the noise at which an attack starts, of the shape of the images.

    It is U(−1, 1), or N(0, 1) if ``pgd`` has a normal start.
    """
    if attack.method == "pgd" and attack.start == "normal":
        return torch.randn(images.shape, generator=generator, device=images.device)
    return 2 * torch.rand(images.shape, generator=generator, device=images.device) - 1


def pgd(
    model: nn.Module, images: Tensor, objective: Objective, noise: Tensor, attack: InnerAttack
) -> Tensor:
    """Return the images after several steps from a random start, always within the ball.

    This is the attack of Madry et al. (2018), or of TRADES with a normal start (Zhang et al. 2019).
    """
    lower, upper = (images - attack.eps).clamp(min=0), (images + attack.eps).clamp(max=1)
    point = (images + noise * (SPREAD if attack.start == "normal" else attack.eps)).clamp(
        lower, upper
    )
    return ascend(model, point, lower, upper, objective, step=attack.step, steps=attack.steps)


def fgsm_rs(
    model: nn.Module, images: Tensor, objective: Objective, noise: Tensor, attack: InnerAttack
) -> Tensor:
    """Return the images after one step from a uniform start, clamped to the ball.

    This is FGSM-RS (Wong et al. 2020).
    """
    lower, upper = (images - attack.eps).clamp(min=0), (images + attack.eps).clamp(max=1)
    point = (images + noise * attack.eps).clamp(lower, upper)
    return ascend(model, point, lower, upper, objective, step=attack.step, steps=1)


def n_fgsm(
    model: nn.Module, images: Tensor, objective: Objective, noise: Tensor, attack: InnerAttack
) -> Tensor:
    """Return the images after one step from noise of twice the radius, not clamped to the ball.

    This is N-FGSM (de Jorge et al. 2022).
    """
    black, white = images.new_zeros(()), images.new_ones(())
    point = (images + noise * 2 * attack.eps).clamp(black, white)
    return ascend(model, point, black, white, objective, step=attack.step, steps=1)


INNER: dict[InnerName, Callable[[nn.Module, Tensor, Objective, Tensor, InnerAttack], Tensor]] = {
    "pgd": pgd,
    "fgsm-rs": fgsm_rs,
    "n-fgsm": n_fgsm,
}
