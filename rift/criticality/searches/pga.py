"""Projected gradient ascent: several steps per pass, from the most promising start."""

import torch
from torch import Tensor

from rift.config import Criticality
from rift.criticality.moving import TRIAL, Moving, Outcome
from rift.criticality.search import Ball, Centre
from rift.progress import Progress

# Measurements chose these constants; docs/criticality.md shows them.
BEGIN = 0.6
"""Radius at which a growing ball starts, as a share of its full radius."""

GROWING = 0.6
"""Share of the steps after which the ball has its full radius."""

STEEP = 0.5
"""Rise of the loss in the trial, in nats, above which the ball starts with its full radius."""

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
    numbers = range(len(moving.examples.batches))
    parts = torch.arange(len(numbers)).tensor_split(min(settings.steps, len(numbers)))
    steps = (settings.passes - 1) * len(parts)
    mean, total = torch.zeros_like(moving.theta), torch.zeros_like(moving.theta)
    start, rise = choose_start(moving, ball, settings, random)
    begin = 1 if rise > STEEP else BEGIN
    moving.move(begin * start)
    for step in range(1, steps + 1):
        for number in parts[(step - 1) % len(parts)].tolist():
            mean += step**4 * moving.gradient(moving.evaluate(number)[0].sum())
        moving.move(min(1, begin + (1 - begin) * step / (GROWING * steps)) * ball.farthest(mean))
        progress(step / len(parts), settings.passes)

    def ascend(number: int) -> tuple[Tensor, Tensor]:
        losses, logits = moving.evaluate(number)
        total.add_(moving.gradient(losses.sum()))
        return losses, logits

    reached = moving.examples.outcome(ascend(number) for number in numbers)
    moving.move(ball.farthest(total))
    worst = highest(centre.outcome, reached, moving.outcome())
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


def choose_start(
    moving: Moving, ball: Ball, settings: Criticality, random: torch.Generator
) -> tuple[Tensor, float]:
    """Choose a start in the ball by a trial on a few images.

    The loss has many local maxima. At most of them, the network predicts one class for nearly all
    images, and the class decides how high the maximum is. The trial therefore compares the points
    that are farthest towards the likeliest classes, followed by random points if there are too few
    classes. The third with the largest losses and the centre each take one step of ascent. The
    highest loss wins.

    Args:
        moving: network whose weight moves.
        ball: ball that contains the start.
        settings: ``restarts`` is the number of points to try in addition to the centre.
        random: source of the random points.

    Returns:
        Δθ of the best point after its step, and the rise of the mean loss of the trial's images
        there, in nats. Without restarts, the centre and 0.
    """
    centre = torch.zeros_like(moving.theta)
    if settings.restarts == 0:
        return centre, 0.0
    moving.move(centre)
    losses, logits = moving.evaluate(TRIAL)
    leaning = logits.log_softmax(1).mean(0)
    towards = leaning.argsort(descending=True, stable=True)[: settings.restarts].tolist()
    starts = [ball.farthest(moving.gradient(leaning[number], again=True)) for number in towards]
    first = ball.farthest(moving.gradient(losses.sum()))
    starts += [
        ball.farthest(torch.randn(centre.shape, generator=random, device=centre.device))
        for _ in range(settings.restarts - len(towards))
    ]
    tried = []
    for start in starts:
        moving.move(start)
        reached = moving.evaluate(TRIAL)[0].sum()
        tried.append((reached.item(), ball.farthest(moving.gradient(reached))))
    tried.sort(key=lambda trial: trial[0], reverse=True)
    best = [step for _, step in tried[: -(-len(tried) // 3)]]

    def loss(delta: Tensor) -> float:
        moving.move(delta)
        with torch.no_grad():
            return moving.evaluate(TRIAL)[0].mean().item()

    highest, start = max(
        ((loss(delta), delta) for delta in [first, *best]), key=lambda trial: trial[0]
    )
    return start, highest - losses.mean().item()
