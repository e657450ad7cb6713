"""Put a model into a mode for a while, and back into exactly what it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients for the weights: batch norm keeps its statistics, backward stops at the input."""
    training = {module: module.training for module in model.modules()}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for parameter in trainable:
            parameter.requires_grad_(True)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copy the state dict, so that later steps do not change it."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
