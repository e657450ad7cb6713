"""Context managers that change the mode of a model, and restore it exactly."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def trainable(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Compute gradients for some parameters of a model and for no others.

    Args:
        model: model whose parameters change ``requires_grad``; it is restored at the end.
        parameters: parameters that need gradients.
    """
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, mode in before.items():
            parameter.requires_grad_(mode)


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and compute no gradients for its weights.

    The statistics of batch norm stay constant. Gradients for the input are still computed. All
    modes are restored at the end.
    """
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with trainable(model, []):
            yield
    finally:
        for module, mode in before.items():
            module.training = mode
