"""Normalisation as a part of the model, so that threat model and attack are in pixel space."""

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtract the mean of each channel and divide by its standard deviation; both are kept with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean[:, None, None]) / self.std[:, None, None]


def normalize_inputs(network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Give a network a submodule ``normalize`` that its images go through first, whatever its own code.

    Its state dict gains ``normalize.mean`` and ``normalize.std``; no other name in it changes. Calling ``network.forward``
    instead of ``network`` goes round it, as round every hook; a forward-pre-hook added later sees normalised images, unless it
    is added with ``prepend=True``.
    """
    network.add_module("normalize", Normalize(mean, std))
    network.register_forward_pre_hook(_normalized)


def _normalized(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Forward-pre-hook. It takes the network from its argument, so that a copy of one uses its own normalisation."""
    (images,) = inputs
    normalized: Tensor = network.get_submodule("normalize")(images)
    return normalized
