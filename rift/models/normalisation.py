"""Normalisation as a part of the model, so that attacks work in pixel space."""

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Module that subtracts the mean of each channel and divides by its standard deviation.

    Both are buffers, so they are saved with the weights.

    Args:
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean[:, None, None]) / self.std[:, None, None]


def normalize_inputs(network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Add a submodule ``normalize`` to a network, which its images pass first.

    The state dict gains ``normalize.mean`` and ``normalize.std``; the other names stay. The
    submodule is called in a forward-pre-hook, so ``network.forward`` skips it. A forward-pre-hook
    that is added later sees normalised images, unless it is added with ``prepend=True``.

    Args:
        network: network, changed in place.
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation of each channel.
    """
    network.add_module("normalize", Normalize(mean, std))
    network.register_forward_pre_hook(_normalized)


def _normalized(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the normalised images, as a forward-pre-hook.

    The network is an argument, so that a copy of a network uses its own normalisation.
    """
    (images,) = inputs
    normalized: Tensor = network.get_submodule("normalize")(images)
    return normalized
