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
from rift.attacks.balls import BALLS, within_range
from rift.config import Attack, Inner, InnerName, NormName, check_inner
from rift.errors import RiftError

SPREAD = 0.001
"""Standard deviation of the normal start of TRADES, in pixel values."""


@dataclass(frozen=True)
class InnerAttack:
    """Complete settings of an inner attack.

    Attributes:
        method: name of the attack.
        start: distribution of the random start; only ``pgd`` reads it.
        eps: radius of the ball, in pixel values.
        step: length of a step in the norm, in pixel values.
        steps: number of steps; the single-step attacks ignore it.
        norm: norm of the threat model; the single-step attacks are for Linf.
    """

    method: InnerName
    start: Literal["uniform", "normal"]
    eps: float
    step: float
    steps: int
    norm: NormName = "linf"


def resolve(settings: Inner, attack: Attack) -> InnerAttack:
    """Return the settings with all omitted values filled in.

    The threat model gives norm and radius, and step and number of steps of ``pgd``. The step of a
    single-step attack is its authors': 1.25·ε for ``fgsm-rs``, ε for ``n-fgsm``.

    Raises:
        RiftError: the method is not published for the norm of the threat model.
    """
    try:
        check_inner(settings, attack)
    except ValueError as error:
        raise RiftError(str(error)) from None
    eps = settings.eps or attack.eps
    steps = {"pgd": attack.step, "fgsm-rs": 1.25 * eps, "n-fgsm": eps}
    return InnerAttack(
        settings.method,
        settings.start,
        eps,
        settings.step or steps[settings.method],
        settings.steps or attack.steps,
        attack.norm,
    )


def draw_noise(images: Tensor, attack: InnerAttack, generator: torch.Generator) -> Tensor:
    """Return the noise at which an attack starts, of the shape of the images.

    It is uniform in the unit ball of the norm (for Linf: U(−1, 1)), or N(0, 1) if ``pgd`` has a
    normal start.
    """
    if attack.method == "pgd" and attack.start == "normal":
        return torch.randn(images.shape, generator=generator, device=images.device)
    return BALLS[attack.norm].noise(images.shape, generator, images.device, None)


def pgd(
    model: nn.Module, images: Tensor, objective: Objective, noise: Tensor, attack: InnerAttack
) -> Tensor:
    """Return the images after several steps from a random start, always within the ball.

    This is the attack of Madry et al. (2018), or of TRADES with a normal start (Zhang et al. 2019),
    whose code has the same start for L2.
    """
    return _ascend_in_ball(
        model,
        images,
        objective,
        noise * (SPREAD if attack.start == "normal" else attack.eps),
        attack,
        steps=attack.steps,
    )


def fgsm_rs(
    model: nn.Module, images: Tensor, objective: Objective, noise: Tensor, attack: InnerAttack
) -> Tensor:
    """Return the images after one step from a uniform start, clamped to the ball.

    This is FGSM-RS (Wong et al. 2020).
    """
    return _ascend_in_ball(model, images, objective, noise * attack.eps, attack, steps=1)


def n_fgsm(
    model: nn.Module, images: Tensor, objective: Objective, noise: Tensor, attack: InnerAttack
) -> Tensor:
    """Return the images after one step from noise of twice the radius, not clamped to the ball.

    This is N-FGSM (de Jorge et al. 2022).
    """
    return ascend(
        model,
        within_range(images + noise * 2 * attack.eps),
        objective,
        ascent=BALLS[attack.norm].ascent,
        project=within_range,
        step=attack.step,
        steps=1,
    )


def _ascend_in_ball(
    model: nn.Module,
    images: Tensor,
    objective: Objective,
    change: Tensor,
    attack: InnerAttack,
    *,
    steps: int,
) -> Tensor:
    """Return the images after some steps from a changed start, always within the ball."""
    ball = BALLS[attack.norm]
    project = ball.around(images, attack.eps)
    return ascend(
        model,
        project(images + change),
        objective,
        ascent=ball.ascent,
        project=project,
        step=attack.step,
        steps=steps,
    )


INNER: dict[InnerName, Callable[[nn.Module, Tensor, Objective, Tensor, InnerAttack], Tensor]] = {
    "pgd": pgd,
    "fgsm-rs": fgsm_rs,
    "n-fgsm": n_fgsm,
}
