"""Put a model into a mode for a while, and back into exactly what it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def trainable(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Gradients for these parameters of the model and for no others."""
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
    """Eval mode without gradients for the weights: batch norm keeps its statistics, backward stops at the input."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with trainable(model, []):
            yield
    finally:
        for module, mode in before.items():
            module.training = mode
