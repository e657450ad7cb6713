"""Gradient ascent on images within a set, which all attacks use."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rift.attacks.balls import Projection
from rift.models.folding import folded
from rift.models.requirements import as_logits

Objective = Callable[[Tensor], Tensor]
"""The quantity that an attack raises: a function of the logits, N×classes.

It is a sum over images, so that the gradient of an image does not depend on the others.
"""


def ascend(
    model: nn.Module,
    point: Tensor,
    objective: Objective,
    *,
    ascent: Callable[[Tensor], Tensor],
    project: Projection,
    step: float,
    steps: int,
) -> Tensor:
    """Take steps of steepest ascent, and project after each step.

    Args:
        model: network in eval mode, without gradients for its weights.
        point: start of the ascent, N×C×H×W.
        objective: function of the logits that is raised.
        ascent: direction of a step, of norm 1 per image, as a function of the gradient.
        project: projection to the allowed images.
        step: length of a step in the norm of the threat model, in pixel values.
        steps: number of steps.

    Returns:
        The end of the ascent, N×C×H×W.
    """
    with folded(model, point):
        for _ in range(steps):
            point = point.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(objective(as_logits(model(point))), point)
            point = project(point.detach() + step * ascent(gradient))
    return point
