"""Gradient ascent on images within a box, which all attacks use."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rift.models.requirements import as_logits

Objective = Callable[[Tensor], Tensor]
"""The quantity that an attack raises: a function of the logits, N×classes.

It is a sum over images, so that the gradient of an image does not depend on the others.
"""


def ascend(
    model: nn.Module,
    point: Tensor,
    lower: Tensor,
    upper: Tensor,
    objective: Objective,
    *,
    step: float,
    steps: int,
) -> Tensor:
    """Take steps along the sign of the gradient, and clamp to the box after each step.

    Args:
        model: network in eval mode, without gradients for its weights.
        point: start of the ascent, N×C×H×W.
        lower: smallest allowed value of each pixel; broadcasts to ``point``.
        upper: largest allowed value of each pixel, likewise.
        objective: function of the logits that is raised.
        step: length of a step, in pixel values.
        steps: number of steps.

    Returns:
        The end of the ascent, N×C×H×W.
    """
    for _ in range(steps):
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(as_logits(model(point))), point)
        point = (point.detach() + step * gradient.sign()).clamp(lower, upper)
    return point
