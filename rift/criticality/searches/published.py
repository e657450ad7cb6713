"""The search of the official code: gradient ascent over batches."""

import torch

from rift.config import Criticality
from rift.criticality.moving import Moving, Outcome
from rift.criticality.search import Ball, Centre
from rift.progress import Progress


def published(
    moving: Moving,
    ball: Ball,
    centre: Centre,
    settings: Criticality,
    _random: torch.Generator,
    progress: Progress,
) -> Outcome:
    """Return the outcome of largest loss that the search of the official code finds.

    It takes a step of gradient ascent per batch. After every pass it projects the weight into the
    ball and evaluates all images.

    Args:
        moving: network whose weight moves.
        ball: ball that the weight is projected into.
        centre: outcome at the centre of the ball.
        settings: passes, learning rate, and whether the search stops at the boundary.
        progress: called after every pass.
    """
    worst, numbers = centre.outcome, range(len(moving.examples.batches))
    losses, logits = moving.evaluate(0)
    for epoch in range(1, settings.epochs + 1):
        for number in numbers:
            if number > 0:
                losses, logits = moving.evaluate(number)
            gradient = moving.gradient(losses.sum())
            with torch.no_grad():
                moving.weight.add_(gradient, alpha=settings.learning_rate / len(losses))
        delta = moving.weight.detach() - moving.theta
        outside = bool(delta.norm() > ball.radius)
        moving.move(ball.project(delta))
        # One pass over the first batch serves two purposes: this evaluation and the next gradient.
        losses, logits = moving.evaluate(0)
        reached = moving.examples.outcome(
            (losses, logits) if number == 0 else moving.evaluate(number) for number in numbers
        )
        worst = max(worst, reached, key=lambda outcome: outcome.loss)
        progress(
            epoch, settings.epochs, mrc=worst.loss - centre.outcome.loss, accuracy=reached.accuracy
        )
        if settings.stop_at_boundary and outside:
            break
    return worst
