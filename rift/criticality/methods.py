"""How the largest robust loss in the weight ball is searched for, by name.

Add yours to ``METHODS`` and its name to ``rift.config.MethodName``.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from rift.config import Criticality, MethodName
from rift.criticality.moving import TRIAL, Examples, Moving, Outcome
from rift.progress import Progress, one_of
from rift.seeds import generator
from rift.training.epoch import arithmetic


@dataclass(frozen=True)
class Found:
    """What was found for one module.

    Attributes:
        rises: by how much the loss rises, in nats, for each image, or for each batch on average.
        images: how many images each of them stands for.
        correct: of every image where that is; None: not looked at.
    """

    rises: Tensor
    images: Tensor
    correct: Tensor | None


@dataclass(frozen=True)
class Ball:
    """The relative ball ‖Δθ‖ₚ ≤ ε‖θ‖ₚ (Definition 3.1)."""

    radius: Tensor
    norm: Literal["l2", "linf"]

    @classmethod
    def around(cls, theta: Tensor, settings: Criticality) -> "Ball":
        length = theta.norm() if settings.norm == "l2" else theta.abs().max()
        return cls(settings.epsilon * length, settings.norm)

    def project(self, delta: Tensor) -> Tensor:
        """Return the point of the ball that is closest."""
        if self.norm == "linf":
            return delta.clamp(-self.radius, self.radius)
        shrunk: Tensor = delta * (self.radius / delta.norm().clamp(min=self.radius))
        return shrunk

    def farthest(self, direction: Tensor) -> Tensor:
        """Return the point of the ball that is farthest in a direction."""
        if self.norm == "linf":
            return self.radius * direction.sign()
        # By its largest entry first: the square of a small gradient is nothing in float32.
        scaled = direction / direction.abs().max().clamp(min=torch.finfo(direction.dtype).tiny)
        farthest: Tensor = scaled * (self.radius / scaled.norm().clamp(min=1))
        return farthest


# How pga begins, chosen by measurement (docs/criticality.md): the radius that the ball grows from, the part of the steps after
# which it has its full one, and the rise of the trial's loss, in nats, from which on it has it at once.
BEGIN, GROWING, STEEP = 0.6, 0.6, 0.5

Search = Callable[[Moving, Ball, Outcome, Criticality, torch.Generator, Progress], Outcome]


def published(
    moving: Moving, ball: Ball, base: Outcome, settings: Criticality, _random: torch.Generator, progress: Progress
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
        here = moving.examples.outcome((losses, logits) if number == 0 else moving.look(number) for number in numbers)
        worst = max(worst, here, key=lambda outcome: outcome.loss)
        progress(epoch, settings.epochs, mrc=worst.loss - base.loss, accuracy=here.accuracy)
        if settings.stop_at_boundary and outside:
            break
    return worst


def pga(
    moving: Moving, ball: Ball, base: Outcome, settings: Criticality, random: torch.Generator, progress: Progress
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


def promising(moving: Moving, ball: Ball, settings: Criticality, random: torch.Generator) -> tuple[Tensor, float]:
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

    highest, start = max(((loss(delta), delta) for delta in [first, *best]), key=lambda trial: trial[0])
    return start, highest - losses.mean().item()


def by_search(
    search: Search,
    examples: Examples,
    weights: Mapping[str, nn.Parameter],
    settings: Criticality,
    seed: int,
    progress: Progress,
) -> tuple[Outcome, dict[str, Found]]:
    """Search the ball of one weight after the other."""
    base = examples.outcome(examples.whole())
    found: dict[str, Found] = {}
    for number, (name, weight) in enumerate(weights.items(), start=1):
        # A stream of its own for every module, so that what is drawn does not depend on which others are measured.
        random = generator(seed, f"criticality of {name}", weight.device)
        with examples.moving(weight) as moving:
            ball = Ball.around(moving.theta, settings)
            worst = search(moving, ball, base, settings, random, one_of(progress, number, len(weights)))
            plain = f"; whole passes: {moving.plain}" if moving.plain else ""
        rises = worst.losses.double() - base.losses.double()
        found[name] = Found(rises, torch.ones_like(rises), worst.correct)
        lost = base.accuracy - worst.accuracy
        progress(number, len(weights), f"{name}: {lost:.2f} points of robust accuracy{plain}", mrc=rises.mean())
    return base, found


def gradient(
    examples: Examples, weights: Mapping[str, nn.Parameter], settings: Criticality, _seed: int, progress: Progress
) -> tuple[Outcome, dict[str, Found]]:
    """Estimate all rises to first order, from the gradient at θ: ε‖θᵢ‖₂‖∇ᵢR‖₂, or ε‖θᵢ‖_∞‖∇ᵢR‖₁.

    A second pass measures how far each batch agrees, which the standard error is taken from.
    """

    def gradients(losses: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(losses.sum(), list(weights.values()))

    totals = [torch.zeros_like(weight) for weight in weights.values()]

    def passes() -> Iterator[tuple[Tensor, Tensor]]:
        for losses, logits in examples.whole():
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
        for number, (losses, _) in enumerate(examples.whole(), start=1):
            agreed = [(each * step).sum() / len(losses) for each, step in zip(gradients(losses), steps, strict=True)]
            rows.append(torch.stack(agreed).double())
            progress(number, len(examples.batches))
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
    sizes = torch.tensor([len(labels) for _, labels in examples.batches], dtype=torch.float64)
    table = torch.stack(rows, 1)
    return base, {name: Found(rises, sizes, None) for name, rises in zip(weights, table, strict=True)}


def examples_for(settings: Criticality, model: nn.Module, images: Tensor, labels: Tensor) -> Examples:
    """Lay out the images as the method wants them.

    For pga every stretch of them has the classes about as often as the whole has, else a trial or a step would find a maximum
    of its own; and batches are such that each step has equally many images, ``batch_size`` at most.
    """
    count, in_bfloat16 = len(labels), arithmetic(settings.precision, images.device) == "bfloat16"
    order, batch_size = torch.arange(count, device=labels.device), settings.batch_size
    if settings.method == "pga":
        # Through the images in the order of their classes by a stride that misses none: the golden section spreads best.
        stride = next(step for step in range(round(count * 0.618), 2 * count + 2) if math.gcd(step, count) == 1)
        order = labels.argsort(stable=True)[order * stride % count]
        of_a_step = -(-count // settings.steps)
        batch_size = -(-of_a_step // -(-of_a_step // batch_size))
    return Examples(model, images, labels, order, batch_size, settings.trial_images, settings.cache_mib, in_bfloat16)


Method = Callable[[Examples, Mapping[str, nn.Parameter], Criticality, int, Progress], tuple[Outcome, dict[str, Found]]]

METHODS: dict[MethodName, Method] = {
    "pga": partial(by_search, pga),
    "published": partial(by_search, published),
    "gradient": gradient,
}
