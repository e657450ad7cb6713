"""Ascent of the robust loss in the weight ball: paths, their starts, and the upper side."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rift.config import Criticality
from rift.criticality.moving import TRIAL, Moving, Outcome
from rift.criticality.search import Ball

# Measurements chose these constants; docs/criticality.md shows them.
BEGIN = 0.6
"""Radius at which a growing ball starts, as a share of its full radius."""

SLOW = 0.3
"""The same share for a path that grows slowly."""

GROWING = 0.6
"""Share of the steps after which the ball has its full radius."""

STEEP = 0.5
"""Rise of the loss in the trial, in nats, above which the ball starts with its full radius."""

NEGLIGIBLE = 1e-5
"""Rise of the mean loss, in nats, at which steps along the gradient of all images stop."""

UPPER_STARTS = 3
"""Number of random starts for the estimate of the upper side."""


def parts_of(moving: Moving, settings: Criticality) -> Sequence[Sequence[int]]:
    """Return the numbers of the batches that each step of a pass takes."""
    numbers = torch.arange(len(moving.examples.batches))
    parts = numbers.tensor_split(min(settings.steps, len(numbers)))
    return [part.tolist() for part in parts]


class Path:
    """A path of ascent from one start.

    Args:
        moving: network whose weight moves.
        ball: ball that the weight stays in.
        start: Δθ of the start.
        begin: share of its radius with which the ball begins to grow; 1 if it does not grow. The
            path begins at this share of the start.
        steps: number of steps until ``end``.
    """

    def __init__(self, moving: Moving, ball: Ball, start: Tensor, begin: float, steps: int) -> None:
        self._moving, self._ball, self._begin, self._steps = moving, ball, begin, steps
        self._mean = torch.zeros_like(moving.theta)
        self._done = 0
        self._at = begin * start

    def step(self, numbers: Sequence[int]) -> Tensor:
        """Take a step along the mean of all gradients; return the loss before it, summed.

        Args:
            numbers: batches that give the gradient of this step.
        """
        self._done += 1
        self._moving.move(self._at)
        before = torch.zeros((), device=self._mean.device)
        for number in numbers:
            losses = self._moving.evaluate(number)[0].sum()
            self._mean += self._done**4 * self._moving.gradient(losses)
            before += losses.detach()
        grown = self._begin + (1 - self._begin) * self._done / (GROWING * self._steps)
        self._at = min(1, grown) * self._ball.farthest(self._mean)
        return before

    def end(self, most: int = 1) -> list[tuple[Outcome, Tensor]]:
        """Take steps along the gradient of all images; return all their ends, each with its Δθ.

        Args:
            most: largest number of steps. They stop when two of them hardly raise the loss.
        """
        moving, found = self._moving, list[tuple[Outcome, Tensor]]()
        for _ in range(most):
            total = torch.zeros_like(self._mean)
            moving.move(self._at)

            def ascend(number: int, total: Tensor = total) -> tuple[Tensor, Tensor]:
                losses, logits = moving.evaluate(number)
                total.add_(moving.gradient(losses.sum()))
                return losses, logits

            numbers = range(len(moving.examples.batches))
            found.append((moving.examples.outcome(map(ascend, numbers)), self._at))
            self._at = self._ball.farthest(total)
            if len(found) > 1 and found[-1][0].loss - found[-2][0].loss < NEGLIGIBLE:
                break
        moving.move(self._at)
        with torch.no_grad():
            return [*found, (moving.outcome(), self._at)]


def best_of_paths(
    moving: Moving,
    ball: Ball,
    at: Tensor,
    begin: float,
    settings: Criticality,
    random: torch.Generator,
) -> list[tuple[Outcome, Tensor]]:
    """Ascend from several starts, and return the ends of the best path.

    The paths start at a point, at the most promising start of a trial, and at the centre with a
    small ball that grows slowly. The first two take one pass, and the one with the larger losses in
    the later half of its steps goes on: the best start of a trial of few images often ends at a
    lower maximum of all. After the last pass, it competes with the third in the same way, and the
    winner takes steps along the gradient of all images.

    Args:
        moving: network whose weight moves.
        ball: ball that the weight stays in.
        at: Δθ of the point.
        begin: share of its radius with which the ball begins to grow around the point.
        settings: passes, steps and restarts. Without restarts, there is no trial.
        random: source of the random starts.
    """
    parts = parts_of(moving, settings)
    steps = (settings.passes - 1) * len(parts)
    paths = [Path(moving, ball, at, begin, steps)]
    if settings.restarts:
        start, rise = choose_start(moving, ball, settings, random)
        paths.append(Path(moving, ball, start, 1 if rise > STEEP else BEGIN, steps))
    late = [_pass(path, parts) for path in paths]
    better, highest = paths[late.index(max(late))], max(late)
    slow = Path(moving, ball, torch.zeros_like(at), SLOW, steps)
    slowly = _pass(slow, parts)
    for _ in range(settings.passes - 2):
        highest, slowly = _pass(better, parts), _pass(slow, parts)
    best = better if highest >= slowly else slow
    return best.end(most=settings.passes)


def _pass(path: Path, parts: Sequence[Sequence[int]]) -> float:
    """Take the steps of one pass, and return the losses before those of its later half, summed."""
    losses = [path.step(numbers) for numbers in parts]
    return torch.stack(losses)[len(parts) // 2 :].sum().item()


def one_path(
    moving: Moving,
    ball: Ball,
    at: Tensor,
    begin: float,
    settings: Criticality,
    *,
    passes: int,
    most: int = 0,
) -> list[tuple[Outcome, Tensor]]:
    """Ascend from a point, and return the ends of the path, each with its Δθ.

    Args:
        moving: network whose weight moves.
        ball: ball that the weight stays in.
        at: Δθ of the point.
        begin: share of its radius with which the ball begins to grow around the point.
        settings: number of steps per pass.
        passes: number of passes: ≥ 1.
        most: largest number of steps along the gradient of all images that follow.
    """
    parts = parts_of(moving, settings)
    path = Path(moving, ball, at, begin, passes * len(parts))
    for _ in range(passes):
        _pass(path, parts)
    return path.end(most)


def distance_to_upper_end(
    moving: Moving, ball: Ball, at: Tensor, settings: Criticality, random: torch.Generator
) -> float:
    """Estimate how far the largest loss in the ball may be above that of a point, in nats.

    Paths from the point and from random points end at local maxima. The upper end of their heights
    is estimated by the largest of them, plus its distance from the second (Robson and Whitlock
    1964). It is an estimate, not a bound: a narrow maximum attracts no path.

    Args:
        moving: network whose weight moves.
        ball: ball that the weight stays in.
        at: Δθ of the point.
        settings: number of steps per pass.
        random: source of the random starts.
    """
    starts = [
        ball.farthest(torch.randn(at.shape, generator=random, device=at.device))
        for _ in range(UPPER_STARTS)
    ]
    heights = []
    for start in [at, *starts]:
        ends = one_path(moving, ball, start, 1, settings, passes=1, most=1)
        heights.append(max(found.loss for found, _ in ends))
    second, largest = sorted(heights)[-2:]
    return largest - heights[0] + largest - second


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
