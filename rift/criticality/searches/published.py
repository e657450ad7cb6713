"""The search of the official code."""

import torch

from rift.config import Criticality
from rift.criticality.moving import Moving, Outcome
from rift.criticality.search import Ball
from rift.progress import Progress


def published(
    moving: Moving,
    ball: Ball,
    base: Outcome,
    settings: Criticality,
    _random: torch.Generator,
    progress: Progress,
) -> Outcome:
    """Search as the official code does: gradient ascent over batches; after each pass, into the ball, and a look at all."""
    worst, numbers = base, range(len(moving.examples.batches))
    losses, logits = moving.look(0)
    for epoch in range(1, settings.epochs + 1):
        for number in numbers:
            if number > 0:
                losses, logits = moving.look(number)
            gradient = moving.gradient(losses.sum())
            with torch.no_grad():
                moving.weight.add_(gradient, alpha=settings.learning_rate / len(losses))
        delta = moving.weight.detach() - moving.theta
        outside = bool(delta.norm() > ball.radius)
        moving.move(ball.project(delta))
        # What the next pass begins with is also what this one is judged by: the first batch, once.
        losses, logits = moving.look(0)
        here = moving.examples.outcome(
            (losses, logits) if number == 0 else moving.look(number) for number in numbers
        )
        worst = max(worst, here, key=lambda outcome: outcome.loss)
        progress(epoch, settings.epochs, mrc=worst.loss - base.loss, accuracy=here.accuracy)
        if settings.stop_at_boundary and outside:
            break
    return worst
