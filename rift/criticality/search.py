"""What searches for the largest robust loss in the weight ball have in common."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rift.config import Criticality
from rift.criticality.moving import Examples, Moving, Outcome
from rift.progress import Progress, part_of
from rift.seeds import generator


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


Ascent = Callable[[Moving, Ball, Outcome, Criticality, torch.Generator, Progress], Outcome]
"""Function (network whose weight moves, ball, outcome at the centre, settings, random numbers, progress)
→ the outcome of largest loss that it found."""


@dataclass(frozen=True)
class Search:
    """A way to find how far the robust loss can rise in the ball of each weight.

    Attributes:
        run: function of (examples, weights by module, settings, seed, progress) that returns the
            outcome of the network itself, and what was found for every module.
        balanced: whether the images are reordered so that every part of them has all classes about
            as often as the whole, and batches so that every step has equally many.
    """

    run: Callable[
        [Examples, Mapping[str, nn.Parameter], Criticality, int, Progress],
        tuple[Outcome, dict[str, Found]],
    ]
    balanced: bool = False


def search_each(
    ascent: Ascent,
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
            worst = ascent(
                moving, ball, base, settings, random, part_of(progress, number, len(weights))
            )
            plain = f"; whole passes: {moving.plain}" if moving.plain else ""
        rises = worst.losses.double() - base.losses.double()
        found[name] = Found(rises, torch.ones_like(rises), worst.correct)
        lost = base.accuracy - worst.accuracy
        progress(
            number,
            len(weights),
            f"{name}: {lost:.2f} points of robust accuracy{plain}",
            mrc=rises.mean(),
        )
    return base, found


def examples_for(
    settings: Criticality, model: nn.Module, images: Tensor, labels: Tensor, *, balanced: bool
) -> Examples:
    """Cut images into the batches of a search.

    Args:
        settings: batch size, steps, precision and memory.
        model: the network.
        images: float32 in [0, 1], N×C×H×W.
        labels: N.
        balanced: give every part of the images all classes about as often as the whole. A trial or a
            step on other images would find a maximum of its own.
    """
    count = len(labels)
    order, batch_size = torch.arange(count, device=labels.device), settings.batch_size
    if balanced:
        # Walk through the images, sorted by class, in strides that miss none: the golden
        # section spreads them best.
        stride = next(
            step
            for step in range(round(count * 0.618), 2 * count + 2)
            if math.gcd(step, count) == 1
        )
        order = labels.argsort(stable=True)[order * stride % count]
        of_a_step = -(-count // settings.steps)
        batch_size = -(-of_a_step // -(-of_a_step // batch_size))
    return Examples(
        model,
        images,
        labels,
        order,
        batch_size,
        settings.trial_images,
        settings.cache_mib,
        settings.precision,
    )
