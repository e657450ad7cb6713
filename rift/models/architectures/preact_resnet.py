"""Residual networks with pre-activation (He et al. 2016, "Identity mappings").

This is the variant that adversarial training commonly uses, with the module names of the common
CIFAR implementation. It differs from the paper in two ways: there is no batch norm between the last
block and the pooling, and a shortcut with a convolution takes the input of its block before the
first batch norm.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


class PreActBlock(nn.Module):
    """Residual block of two 3×3 convolutions, each preceded by batch norm and ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        return cast("Tensor", self.conv2(F.relu(self.bn2(out))) + self.shortcut(x))


class PreActResNet(nn.Module):
    """Network with four stages, ``layer1`` to ``layer4``, of two blocks each.

    Each stage except the first halves the spatial size and doubles the number of channels.

    Args:
        classes: number of classes.
        channels: number of image channels.
        width: number of channels in the first stage.
    """

    def __init__(self, classes: int, channels: int, *, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.layer1 = _stage(width, width, 1)
        self.layer2 = _stage(width, 2 * width, 2)
        self.layer3 = _stage(2 * width, 4 * width, 2)
        self.layer4 = _stage(4 * width, 8 * width, 2)
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(images)))))
        return cast("Tensor", self.linear(x.mean(dim=(2, 3))))


def _stage(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        PreActBlock(channels_in, channels, stride), PreActBlock(channels, channels, 1)
    )
