"""Adversarial weight perturbation (Wu et al. 2020, section 4.1)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def perturbed_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights that are perturbed: all weights with two or more dimensions.

    Biases and batch norm have one dimension, so they are not perturbed. Class tokens and position
    embeddings are no weights by their names.
    """
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and name.endswith("weight")
    ]


def perturbation(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], gamma: float
) -> list[Tensor]:
    """Return the ascent step v of every weight: along its gradient, of length γ·‖θ‖ (equation 10).

    Args:
        weights: weights θ.
        gradients: gradients of the loss, in the same order.
        gamma: length of a step relative to the weight.
    """
    return [
        gamma
        * weight.detach().norm()
        * gradient
        / gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)
        for weight, gradient in zip(weights, gradients, strict=True)
    ]


@contextmanager
def perturbed(weights: Sequence[nn.Parameter], steps: Iterable[Tensor]) -> Iterator[None]:
    """Move the weights by steps, and restore them exactly at the end."""
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, step in zip(weights, steps, strict=True):
            weight.add_(step)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
