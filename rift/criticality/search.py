"""Parts that all searches for the largest robust loss in the weight ball use."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from rift.config import Criticality
from rift.criticality.moving import Examples, Moving, Outcome, gradients
from rift.criticality.table import Place
from rift.device import resolve_precision
from rift.errors import RiftError
from rift.models.requirements import not_finite
from rift.progress import Progress, part_of
from rift.seeds import generator


@dataclass(frozen=True)
class LossRise:
    """The rise of the robust loss that a search found for one module.

    Attributes:
        rises: rise of the loss in nats, per image, or averaged per batch: K. NaN for images on
            which the module was not measured.
        images: number of images behind each rise, K.
        correct: whether each image is classified correctly at the weight that was found: bool, N.
            None if the search evaluates no weight.
        place: what the search knows about the place of the module among all.
    """

    rises: Tensor
    images: Tensor
    correct: Tensor | None
    place: Place = field(default_factory=Place)


@dataclass(frozen=True)
class Ball:
    """The relative ball ‖Δθ‖ₚ ≤ ε‖θ‖ₚ (Zhu et al. 2023, Definition 3.1).

    Attributes:
        radius: ε‖θ‖ₚ.
        norm: ``l2`` (p = 2) or ``linf`` (p = ∞).
    """

    radius: Tensor
    norm: Literal["l2", "linf"]

    @classmethod
    def around(cls, theta: Tensor, settings: Criticality) -> "Ball":
        """Return the ball around a weight, by ``epsilon`` and ``norm`` of the settings."""
        length = theta.norm() if settings.norm == "l2" else theta.abs().max()
        return cls(settings.epsilon * length, settings.norm)

    def project(self, delta: Tensor) -> Tensor:
        """Return the closest point of the ball."""
        if self.norm == "linf":
            return delta.clamp(-self.radius, self.radius)
        shrunk: Tensor = delta * (self.radius / delta.norm().clamp(min=self.radius))
        return shrunk

    def farthest(self, direction: Tensor) -> Tensor:
        """Return the point of the ball that is farthest along a direction."""
        if self.norm == "linf":
            return self.radius * direction.sign()
        # Division by the largest entry comes first: the square of a small gradient underflows in
        # float32.
        scaled = direction / direction.abs().max().clamp(min=torch.finfo(direction.dtype).tiny)
        farthest: Tensor = scaled * (self.radius / scaled.norm().clamp(min=1))
        return farthest


@dataclass(frozen=True)
class Centre:
    """The centre of a ball.

    Attributes:
        outcome: outcome of the network itself.
        gradient: gradient of the mean loss with respect to the weight, at the centre.
    """

    outcome: Outcome
    gradient: Tensor


Ascent = Callable[[Moving, Ball, Centre, Criticality, torch.Generator, Progress], Outcome]
"""Search in the ball of one weight.

Function (network whose weight moves, ball, its centre, settings, random numbers, progress) → the
outcome of largest loss that it found.
"""


@dataclass(frozen=True)
class Search:
    """A search for the largest rise of the robust loss in the ball of each weight.

    Attributes:
        run: function of (examples, weights by module, settings, seed, progress) that returns the
            outcome of the network itself, and the rise for every module.
        balanced: whether every part of the images must contain the classes in about the shares of
            the whole, and every step equally many batches.
    """

    run: Callable[
        [Examples, Mapping[str, nn.Parameter], Criticality, int, Progress],
        tuple[Outcome, dict[str, LossRise]],
    ]
    balanced: bool = False


def search_each(
    ascent: Ascent,
    examples: Examples,
    weights: Mapping[str, nn.Parameter],
    settings: Criticality,
    seed: int,
    progress: Progress,
) -> tuple[Outcome, dict[str, LossRise]]:
    """Search the ball of one weight after the other.

    Args:
        ascent: search in one ball.
        examples: network and adversarial examples.
        weights: weights by module.
        settings: settings of the search.
        seed: seed of the random starts; every module has its own stream.
        progress: called during the search and after every module.

    Returns:
        The outcome of the network itself, and the rise for every module.
    """
    base, slopes = at_centre(examples, weights)
    results: dict[str, LossRise] = {}
    for number, (name, weight) in enumerate(weights.items(), start=1):
        # One stream per module: the numbers must not depend on which other modules are measured.
        random = generator(seed, f"criticality of {name}", weight.device)
        with examples.moving(weight) as moving:
            ball = Ball.around(moving.theta, settings)
            worst = ascent(
                moving,
                ball,
                Centre(base, slopes[name]),
                settings,
                random,
                part_of(progress, number, len(weights)),
            )
            reason = moving.reason_for_whole_passes
        rises = worst.losses.double() - base.losses.double()
        results[name] = LossRise(rises, torch.ones_like(rises), worst.correct)
        lost = base.accuracy - worst.accuracy
        note = f"{name}: {lost:.2f} points of robust accuracy lost"
        if reason:
            note += f"; whole passes: {reason}"
        progress(number, len(weights), note, mrc=rises.mean())
    return base, results


def at_centre(
    examples: Examples, weights: Mapping[str, nn.Parameter]
) -> tuple[Outcome, dict[str, Tensor]]:
    """Return the network's outcome, and the gradient of the mean loss for every weight.

    Args:
        examples: network and adversarial examples.
        weights: weights by module.

    Raises:
        RiftError: the network returns NaN or infinity for some examples.
    """
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def passes() -> Iterator[tuple[Tensor, Tensor]]:
        for losses, logits in examples.whole_passes():
            found = gradients(losses.sum() / examples.count, list(weights.values()))
            torch._foreach_add_(list(totals.values()), list(found))
            yield losses, logits

    with gradients_of(weights):
        base = examples.outcome(passes())
    check_finite(base)
    return base, totals


def check_finite(outcome: Outcome) -> None:
    """Check the outcome of the network itself.

    Raises:
        RiftError: the network returns NaN or infinity for some examples.
    """
    bad = int((~outcome.losses.isfinite()).sum())
    if bad:
        raise RiftError(not_finite(bad, len(outcome.losses)))


@contextmanager
def gradients_of(weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Let gradients flow to all weights inside the context."""
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)


def examples_for(
    settings: Criticality, model: nn.Module, images: Tensor, labels: Tensor, *, balanced: bool
) -> Examples:
    """Return images in the batches of a search.

    Args:
        settings: batch size, steps, precision and memory.
        model: network that is measured.
        images: adversarial examples, float32 in [0, 1], N×C×H×W.
        labels: N.
        balanced: whether to order the images so that every part contains the classes in about the
            shares of the whole. Otherwise a trial or a step would find a maximum of its own few
            images.
    """
    count = len(labels)
    order, batch_size = torch.arange(count, device=labels.device), settings.batch_size
    if balanced:
        # The images are sorted by class, and strides through them reach every image once. A stride
        # near the golden section spreads the classes best.
        stride = next(
            step
            for step in range(round(count * 0.618), 2 * count + 2)
            if math.gcd(step, count) == 1
        )
        order = labels.argsort(stable=True)[order * stride % count]
        per_step = -(-count // settings.steps)
        batch_size = -(-per_step // -(-per_step // batch_size))
    return Examples(
        model,
        images,
        labels,
        order,
        batch_size,
        settings.trial_images,
        settings.cache_mib,
        resolve_precision(settings.precision, images.device, on_cpu=True),
    )
