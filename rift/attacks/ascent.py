"""Gradient ascent on images, within a box: what attacks have in common."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rift.device import to_float32

Objective = Callable[[Tensor], Tensor]
"""What an attack raises: a function of the logits, N×classes, summed over images (so that none depends on the others)."""


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
    """Take steps along the sign of the gradient, back into the box after each.

    Args:
        model: in eval mode, without gradients for its weights.
        point: where to begin, N×C×H×W.
        lower: least value of every pixel.
        upper: greatest value.
        objective: function of the logits that is raised.
        step: length of a step, in pixel values.
        steps: how many.
    """
    for _ in range(steps):
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(to_float32(model(point))), point)
        point = (point.detach() + step * gradient.sign()).clamp(lower, upper)
    return point
