"""Wide residual networks (Zagoruyko and Komodakis 2016).

The module names match the TRADES code and the projects that build on it.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Residual block of two 3×3 convolutions, each preceded by batch norm and ReLU.

    If the number of channels changes, the shortcut is a 1×1 convolution after the first batch norm
    and ReLU. Otherwise it is the identity.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.widens = channels_in != channels
        if self.widens:
            self.add_module("convShortcut", nn.Conv2d(channels_in, channels, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return cast(
            "Tensor", out + (self.get_submodule("convShortcut")(activated) if self.widens else x)
        )


class Group(nn.Module):
    """Blocks of equal width in the submodule ``layer``; only the first block uses the stride."""

    def __init__(self, count: int, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        first = BasicBlock(channels_in, channels, stride)
        self.layer = nn.Sequential(
            first, *(BasicBlock(channels, channels, 1) for _ in range(count - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.layer(x))


class WideResNet(nn.Module):
    """Network with three groups, ``block1`` to ``block3``, of (depth - 4) / 6 blocks each.

    The last two groups each halve the spatial size.

    Args:
        classes: number of classes.
        channels: number of image channels.
        depth: number of layers, 6n + 4 for n blocks per group.
        widen: widening factor k; the groups have 16k, 32k and 64k channels.
    """

    def __init__(self, classes: int, channels: int, *, depth: int, widen: int) -> None:
        super().__init__()
        count = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = Group(count, 16, 16 * widen, 1)
        self.block2 = Group(count, 16 * widen, 32 * widen, 2)
        self.block3 = Group(count, 32 * widen, 64 * widen, 2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(images))))
        return cast("Tensor", self.fc(F.relu(self.bn1(x)).mean(dim=(2, 3))))
