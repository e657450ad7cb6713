"""Residual networks for small images (He et al. 2016).

The module names match the common CIFAR implementations.
"""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]
"""Function of the number of channels that makes a normalisation layer."""

GROUP = 8
"""Number of channels per group of group norm."""


def group_norm(channels: int) -> nn.Module:
    """Return group norm with groups of eight channels (Wu and He 2018)."""
    return nn.GroupNorm(channels // GROUP, channels)


class BasicBlock(nn.Module):
    """Residual block of two 3×3 convolutions, each followed by a normalisation layer.

    Args:
        channels_in: number of input channels.
        channels: number of output channels.
        stride: stride of the first convolution.
        projects: whether a shortcut between different shapes is a 1×1 convolution (option B).
            Otherwise it has no weights: it takes every ``stride``-th pixel, and pads with zero
            channels (option A).
        norm: function of the number of channels that makes a normalisation layer.
    """

    def __init__(
        self, channels_in: int, channels: int, stride: int, projects: bool, norm: Norm
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = norm(channels)
        self.shortcut: nn.Module = nn.Sequential()
        if (stride != 1 or channels_in != channels) and not projects:
            self.shortcut = PaddedShortcut(channels - channels_in, stride)
        elif stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), norm(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return F.relu(out)


class PaddedShortcut(nn.Module):
    """Shortcut without weights: fewer pixels, and zero channels on both sides of the others."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.before, self.after = channels // 2, channels - channels // 2
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.before, self.after))


class ResNet(nn.Module):
    """Network with stages ``layer1``, ``layer2`` … of basic blocks.

    Each stage except the first halves the spatial size and doubles the number of channels.

    Args:
        classes: number of classes.
        channels: number of image channels.
        blocks: number of blocks in each stage.
        width: number of channels in the first stage.
        projects: whether shortcuts between different shapes have weights (``BasicBlock``).
        norm: function of the number of channels that makes a normalisation layer.
    """

    def __init__(
        self,
        classes: int,
        channels: int,
        *,
        blocks: tuple[int, ...],
        width: int,
        projects: bool = True,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = norm(width)
        self.stages = [f"layer{number}" for number in range(1, len(blocks) + 1)]
        channels_in = width
        for stage, (name, count) in enumerate(zip(self.stages, blocks, strict=True)):
            channels_out = width * 2**stage
            strides = [1 if stage == 0 else 2, *[1] * (count - 1)]
            layers = [
                BasicBlock(
                    channels_in if first else channels_out, channels_out, stride, projects, norm
                )
                for first, stride in zip([True, *[False] * (count - 1)], strides, strict=True)
            ]
            self.add_module(name, nn.Sequential(*layers))
            channels_in = channels_out
        self.linear = nn.Linear(channels_in, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return cast("Tensor", self.linear(x.mean(dim=(2, 3))))
