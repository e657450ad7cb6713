"""Projected gradient ascent: several steps per pass, from the most promising start."""

import torch
from torch import Tensor

from rift.config import Criticality
from rift.criticality.moving import TRIAL, Moving, Outcome
from rift.criticality.search import Ball
from rift.progress import Progress

# How pga begins, chosen by measurement (docs/criticality.md): the radius that the ball grows from, the part of the steps after
# which it has its full one, and the rise of the trial's loss, in nats, from which on it has it at once.
BEGIN, GROWING, STEEP = 0.6, 0.6, 0.5


def pga(
    moving: Moving,
    ball: Ball,
    base: Outcome,
    settings: Criticality,
    random: torch.Generator,
    progress: Progress,
) -> Outcome:
    """Search by projected ascent along normalised gradients, several steps a pass, from the most promising start.

    Steps are as long as can be: the weight goes to that point of the ball which is farthest in the direction of a mean of the
    gradients so far, step i weighing i⁴. Where the trial has found no steep rise, the ball grows to its full size meanwhile:
    the loss is then nearly quadratic, and the path from near the centre leads to the highest maximum. Each step takes the
    gradient of its part of the images; the last pass takes one step along that of all, and its losses are those of the point
    it begins at. What counts is the largest loss of such a point, and of the end. docs/criticality.md says how all this was
    chosen.
    """
    numbers = range(len(moving.examples.batches))
    parts = torch.arange(len(numbers)).tensor_split(min(settings.steps, len(numbers)))
    steps = (settings.passes - 1) * len(parts)
    mean, total = torch.zeros_like(moving.theta), torch.zeros_like(moving.theta)
    start, rise = promising(moving, ball, settings, random)
    begin = 1 if rise > STEEP else BEGIN
    moving.move(begin * start)
    for step in range(1, steps + 1):
        for number in parts[(step - 1) % len(parts)].tolist():
            mean += step**4 * moving.gradient(moving.look(number)[0].sum())
        moving.move(min(1, begin + (1 - begin) * step / (GROWING * steps)) * ball.farthest(mean))
        progress(step / len(parts), settings.passes)

    def ascend(number: int) -> tuple[Tensor, Tensor]:
        losses, logits = moving.look(number)
        total.add_(moving.gradient(losses.sum()))
        return losses, logits

    here = moving.examples.outcome(ascend(number) for number in numbers)
    moving.move(ball.farthest(total))
    worst = max(base, here, moving.outcome(), key=lambda outcome: outcome.loss)
    progress(settings.passes, settings.passes, mrc=worst.loss - base.loss, accuracy=worst.accuracy)
    return worst


def promising(
    moving: Moving, ball: Ball, settings: Criticality, random: torch.Generator
) -> tuple[Tensor, float]:
    """Choose where in the ball to begin, by a trial on a few images.

    The loss has many local maxima: at most of them the network sees one class in nearly all images, and which one decides how
    high the maximum is. So what is tried besides the centre are the points farthest towards the classes that the network leans
    to most, then random ones. The third with the largest losses, and the centre, are judged again after one step of ascent.

    Returns:
        Δθ of the chosen start after that step, and by how much the loss of the trial's images is higher there, in nats; the
        centre and 0 if nothing is to be tried.
    """
    centre = torch.zeros_like(moving.theta)
    if settings.restarts == 0:
        return centre, 0.0
    moving.move(centre)
    losses, logits = moving.look(TRIAL)
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
        reached = moving.look(TRIAL)[0].sum()
        tried.append((reached.item(), ball.farthest(moving.gradient(reached))))
    tried.sort(key=lambda trial: trial[0], reverse=True)
    best = [step for _, step in tried[: -(-len(tried) // 3)]]

    def loss(delta: Tensor) -> float:
        moving.move(delta)
        with torch.no_grad():
            return moving.look(TRIAL)[0].mean().item()

    highest, start = max(
        ((loss(delta), delta) for delta in [first, *best]), key=lambda trial: trial[0]
    )
    return start, highest - losses.mean().item()
