"""Architectures by name.

To add an architecture, add an entry to ``ARCHITECTURES`` and its name to
``rift.config.names.ArchitectureName``.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from rift.config import ArchitectureName
from rift.models.architectures.preact_resnet import PreActResNet
from rift.models.architectures.resnet import ResNet, group_norm
from rift.models.architectures.transformers import vit
from rift.models.architectures.wide_resnet import WideResNet

Maker = Callable[[int, int, int], nn.Module]
"""Function (number of classes, number of channels, image size in pixels) → network."""


def any_size(make: Callable[[int, int], nn.Module]) -> Maker:
    """Return a ``Maker`` that ignores the image size.

    Convolutional networks support every size because they end with global average pooling.

    Args:
        make: function (number of classes, number of channels) → network.
    """
    return lambda classes, channels, _size: make(classes, channels)


ARCHITECTURES: dict[ArchitectureName, Maker] = {
    "resnet8": any_size(partial(ResNet, blocks=(1, 1, 1), width=16)),
    "resnet20": any_size(partial(ResNet, blocks=(3, 3, 3), width=16, projects=False)),
    "resnet18-w16": any_size(partial(ResNet, blocks=(2, 2, 2, 2), width=16)),
    "resnet18-w16-gn": any_size(partial(ResNet, blocks=(2, 2, 2, 2), width=16, norm=group_norm)),
    "resnet18-w32": any_size(partial(ResNet, blocks=(2, 2, 2, 2), width=32)),
    "resnet18": any_size(partial(ResNet, blocks=(2, 2, 2, 2), width=64)),
    "resnet34": any_size(partial(ResNet, blocks=(3, 4, 6, 3), width=64)),
    "preact-resnet18": any_size(partial(PreActResNet, width=64)),
    "wrn-28-10": any_size(partial(WideResNet, depth=28, widen=10)),
    "wrn-34-10": any_size(partial(WideResNet, depth=34, widen=10)),
    "vit-small": partial(vit, width=384, depth=12, heads=6),
    "vit-w96": partial(vit, width=96, depth=6, heads=3),
}
