"""Projected gradient ascent: several steps per pass, from the most promising start."""

import torch
from torch import Tensor

from rift.config import Criticality
from rift.criticality.ascent import BEGIN, STEEP, Path, choose_start, parts_of
from rift.criticality.moving import Moving, Outcome
from rift.criticality.search import Ball, Centre
from rift.progress import Progress

# Measurements chose these constants; docs/criticality.md shows them.
SHARES = (0.5, 0.25, 0.125, 0.0625)
"""Shares of the way that a step of the climb tries."""


def pga(
    moving: Moving,
    ball: Ball,
    centre: Centre,
    settings: Criticality,
    random: torch.Generator,
    progress: Progress,
) -> Outcome:
    """Return the outcome of largest loss that projected gradient ascent finds in the ball.

    Every step goes to the point of the ball that is farthest along a mean of all gradients so far.
    Step i has weight i⁴ in the mean, and takes the gradient of one part of the images. The last
    pass takes one step along the gradient of all images. The candidates are the centre, the point
    before this last step, and the point after it.

    The search starts at the most promising point of a trial. If the trial found no steep rise, the
    ball grows to its full radius during the search. The loss is then nearly quadratic, and the path
    from near the centre leads to the highest maximum. docs/criticality.md shows the measurements.

    Args:
        moving: network whose weight moves.
        ball: ball that the weight stays in.
        centre: outcome and gradient at the centre of the ball.
        settings: passes, steps and restarts.
        random: source of the random starts.
        progress: called after every step.
    """
    parts = parts_of(moving, settings)
    steps = (settings.passes - 1) * len(parts)
    start, rise = choose_start(moving, ball, settings, random)
    path = Path(moving, ball, start, 1 if rise > STEEP else BEGIN, steps)
    for step in range(steps):
        path.step(parts[step % len(parts)])
        progress((step + 1) / len(parts), settings.passes)
    worst = highest(centre.outcome, *(found for found, _ in path.end()))
    simple, at = simple_ascent(moving, ball, centre)
    if simple.loss > worst.loss:
        worst = climb(moving, ball, simple, at, settings.passes)
    rise = worst.loss - centre.outcome.loss
    progress(settings.passes, settings.passes, mrc=rise, accuracy=worst.accuracy)
    return worst


def highest(*outcomes: Outcome) -> Outcome:
    """Return the first of the outcomes with the largest mean loss."""
    return max(outcomes, key=lambda outcome: outcome.loss)


def simple_ascent(moving: Moving, ball: Ball, centre: Centre) -> tuple[Outcome, Tensor]:
    """Return the better outcome of two steps along the gradient at the centre, and its Δθ.

    The first step goes to the boundary of the ball. The second step is the gradient itself,
    projected into the ball: the first step of the published search, if its batch contains all
    images.

    Args:
        moving: network whose weight moves.
        ball: ball that the weight stays in.
        centre: gradient at the centre of the ball.
    """
    found = []
    farthest, inside = ball.farthest(centre.gradient), ball.project(centre.gradient)
    for step in [farthest] if torch.allclose(farthest, inside) else [farthest, inside]:
        moving.move(step)
        found.append((moving.outcome(), step))
    return max(found, key=lambda each: each[0].loss)


def climb(moving: Moving, ball: Ball, best: Outcome, at: Tensor, rounds: int) -> Outcome:
    """Climb from a point inside or on the boundary of the ball, and return the highest outcome.

    Every round takes one Frank-Wolfe step: towards the point of the ball that is farthest along the
    gradient of all images, by the largest of some shares that raises the loss.

    Args:
        moving: network whose weight moves.
        ball: ball that the weight stays in.
        best: outcome at the start.
        at: Δθ at the start.
        rounds: number of steps.
    """
    for _ in range(rounds):
        moving.move(at)
        total = torch.zeros_like(at)
        for number in range(len(moving.examples.batches)):
            total += moving.gradient(moving.evaluate(number)[0].sum())
        goal = ball.farthest(total)
        for share in SHARES:
            moving.move(at + share * (goal - at))
            reached = moving.outcome()
            if reached.loss > best.loss:
                best, at = reached, at + share * (goal - at)
                break
        else:
            break
    return best
