"""First-order estimate of all modules at once."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from rift.config import Criticality
from rift.criticality.moving import Examples, Outcome
from rift.criticality.search import Ball, LossRise
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

    def gradients(losses: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(losses.sum(), list(weights.values()))

    totals = [torch.zeros_like(weight) for weight in weights.values()]

    def passes() -> Iterator[tuple[Tensor, Tensor]]:
        for losses, logits in examples.whole_passes():
            torch._foreach_add_(totals, gradients(losses))
            yield losses, logits

    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        base = examples.outcome(passes())
        steps = [
            Ball.around(weight.detach(), settings).farthest(total)
            for weight, total in zip(weights.values(), totals, strict=True)
        ]
        rows = []
        for number, (losses, _) in enumerate(examples.whole_passes(), start=1):
            estimates = [
                (each * step).sum() / len(losses)
                for each, step in zip(gradients(losses), steps, strict=True)
            ]
            rows.append(torch.stack(estimates).double())
            progress(number, len(examples.batches))
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
    sizes = torch.tensor([len(labels) for _, labels in examples.batches], dtype=torch.float64)
    table = torch.stack(rows, 1)
    return base, {
        name: LossRise(rises, sizes, None) for name, rises in zip(weights, table, strict=True)
    }
