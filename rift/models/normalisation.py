"""Input normalisation inside the model, so that attacks work in pixel space."""

import torch
from torch import Tensor, nn

NORMALIZE = "normalize"
"""Name of the submodule that normalises."""


class Normalize(nn.Module):
    """Module that subtracts the mean of each channel and divides by its standard deviation.

    Both are buffers, so the state dict contains them.

    Args:
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation of each channel, for images in [0, 1].
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
    """Add a submodule ``normalize`` that normalises the images before the network.

    The state dict gains ``normalize.mean`` and ``normalize.std``, and all other names stay the
    same. A forward pre-hook calls the submodule, so a direct call of ``network.forward`` skips it.
    Forward pre-hooks that are added later receive normalised images, unless they are added with
    ``prepend=True``.

    Args:
        network: network, changed in place.
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation of each channel, for images in [0, 1].
    """
    network.add_module(NORMALIZE, Normalize(mean, std))
    network.register_forward_pre_hook(_normalized)


def _normalized(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the normalised images; this function is a forward pre-hook.

    It looks up the normalisation in its argument, so that a copy of a network uses its own.
    """
    (images,) = inputs
    normalized: Tensor = network.get_submodule(NORMALIZE)(images)
    return normalized
