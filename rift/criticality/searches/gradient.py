"""First-order estimate of all modules at once."""

from collections.abc import Mapping

import torch
from torch import nn

from rift.config import Criticality
from rift.criticality.moving import Examples, Outcome, gradients
from rift.criticality.search import Ball, LossRise, at_centre, gradients_of
from rift.progress import Progress


def gradient(
    examples: Examples,
    weights: Mapping[str, nn.Parameter],
    settings: Criticality,
    _seed: int,
    progress: Progress,
) -> tuple[Outcome, dict[str, LossRise]]:
    """Return the network's outcome, and first-order estimates of all rises.

    The estimate is ε‖θᵢ‖₂‖∇ᵢR‖₂, or ε‖θᵢ‖_∞‖∇ᵢR‖₁ for the norm ``linf``, from the gradient at θ. A
    second pass gives the estimate per batch, from which the standard error is computed.

    Args:
        examples: network and adversarial examples.
        weights: weights by module.
        settings: radius and norm of the ball.
        progress: called after every batch of the second pass.
    """
    base, slopes = at_centre(examples, weights)
    steps = [
        Ball.around(weight.detach(), settings).farthest(slopes[name])
        for name, weight in weights.items()
    ]
    rows = []
    with gradients_of(weights):
        for number, (losses, _) in enumerate(examples.whole_passes(), start=1):
            found = gradients(losses.mean(), list(weights.values()))
            estimates = [(each * step).sum() for each, step in zip(found, steps, strict=True)]
            rows.append(torch.stack(estimates).double())
            progress(number, len(examples.batches))
    sizes = torch.tensor([len(labels) for _, labels in examples.batches], dtype=torch.float64)
    table = torch.stack(rows, 1)
    return base, {
        name: LossRise(rises, sizes, None) for name, rises in zip(weights, table, strict=True)
    }
