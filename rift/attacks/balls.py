"""Balls around images: random starts, steepest ascent and projection, by norm.

To add a norm, write its ``Ball`` here, and add it to ``BALLS`` and its name to
``rift.config.names.NormName``, with a radius and a step in ``rift.config.threat``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rift.config import NormName

Projection = Callable[[Tensor], Tensor]
"""A function of images, N×C×H×W, that returns the images moved into a set."""


@dataclass(frozen=True)
class Ball:
    """The operations of a norm.

    Attributes:
        noise: uniform random points of the unit ball: (shape N×…, generator, device, dtype) →
            points.
        ascent: (gradient N×C×H×W) → the change of norm 1 per image along which the objective rises
            most; zero where the gradient is zero.
        around: (images, radius) → projection to the ball around the images, within [0, 1].
    """

    noise: Callable[
        [Sequence[int], torch.Generator | None, torch.device, torch.dtype | None], Tensor
    ]
    ascent: Callable[[Tensor], Tensor]
    around: Callable[[Tensor, float], Projection]


def within_range(point: Tensor) -> Tensor:
    """Return images clamped to [0, 1]."""
    return point.clamp(0, 1)


def _linf_noise(
    shape: Sequence[int],
    generator: torch.Generator | None,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Tensor:
    return 2 * torch.rand(shape, generator=generator, device=device, dtype=dtype) - 1


def _linf_around(images: Tensor, eps: float) -> Projection:
    lower, upper = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    return lambda point: point.clamp(lower, upper)


def _l2_noise(
    shape: Sequence[int],
    generator: torch.Generator | None,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Tensor:
    """Return a normal direction times U^(1/d): a ball of radius r has the share r^d of all."""
    direction = torch.randn(shape, generator=generator, device=device, dtype=dtype)
    radius = torch.rand(shape[0], generator=generator, device=device, dtype=dtype)
    dimensions = direction[0].numel() if len(direction) else 1
    return _l2_unit(direction) * _per_image(radius ** (1 / dimensions), direction)


def _l2_unit(vectors: Tensor) -> Tensor:
    """Return vectors of length 1 per image; zero stays zero."""
    # Gradients of confident networks are so small that their squares would underflow.
    largest = vectors.flatten(1).abs().amax(1)
    scaled = vectors / _per_image(torch.where(largest > 0, largest, 1), vectors)
    lengths = scaled.flatten(1).norm(dim=1).clamp(min=1)  # the largest entry is 1 unless all are 0
    return scaled / _per_image(lengths, scaled)


def _l2_around(images: Tensor, eps: float) -> Projection:
    def project(point: Tensor) -> Tensor:
        change = point - images
        lengths = change.flatten(1).norm(dim=1)
        shrunk = change * _per_image(eps / lengths.clamp(min=eps), change)
        # The images are in [0, 1], so clamping moves no pixel away from them. Clamped after the
        # projection, a point therefore stays in the ball.
        return (images + shrunk).clamp(0, 1)

    return project


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    """Return one value per image in a shape that broadcasts to the images."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


BALLS: dict[NormName, Ball] = {
    "linf": Ball(_linf_noise, torch.sign, _linf_around),
    "l2": Ball(_l2_noise, _l2_unit, _l2_around),
}
