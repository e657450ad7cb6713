"""Normalisation and enlargement of images inside the model, so that attacks change pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

NORMALIZE = "normalize"
"""Name of the submodule that normalises."""


class Normalize(nn.Module):
    """Module that subtracts the mean of each channel and divides by its standard deviation.

    Both are buffers, so the state dict contains them.

    Args:
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation of each channel, for images in [0, 1].
        enlarge: side in pixels to which images are enlarged, by nearest neighbours; None to keep
            their size.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], enlarge: int | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.enlarge = enlarge

    def forward(self, images: Tensor) -> Tensor:
        normalized = (images - self.mean[:, None, None]) / self.std[:, None, None]
        if self.enlarge is None:
            return normalized
        # Small images are normalised faster, and nearest neighbours give the same in both orders.
        return functional.interpolate(normalized, size=(self.enlarge, self.enlarge), mode="nearest")


def normalize_inputs(
    network: nn.Module,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    enlarge: int | None = None,
) -> None:
    """Add a submodule ``normalize`` that normalises the images before the network.

    The state dict gains ``normalize.mean`` and ``normalize.std``, and all other names stay the
    same. A forward pre-hook calls the submodule, so a direct call of ``network.forward`` skips it.
    Forward pre-hooks that are added later receive normalised images, unless they are added with
    ``prepend=True``.

    Args:
        network: network, changed in place.
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation of each channel, for images in [0, 1].
        enlarge: side in pixels to which images are enlarged; None to keep their size.
    """
    network.add_module(NORMALIZE, Normalize(mean, std, enlarge))
    network.register_forward_pre_hook(_normalized)


def _normalized(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the normalised images; this function is a forward pre-hook.

    It looks up the normalisation in its argument, so that a copy of a network uses its own.
    """
    (images,) = inputs
    normalized: Tensor = network.get_submodule(NORMALIZE)(images)
    return normalized
