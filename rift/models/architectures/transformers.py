"""Networks of the timm package: the small vision transformer of robust training, and any other by its name in timm."""

from difflib import get_close_matches

import torch
from torch import nn

from rift.errors import RiftError, first_line
from rift.thirdparty import prepare_torchvision

PATCHES = 8  # a side: 4 pixels each on CIFAR, 8 on Tiny-ImageNet


def vit_small(classes: int, channels: int, size: int) -> nn.Module:
    """Make ViT-S (width 384, depth 12, 6 heads) with 8 × 8 patches, whatever the size of the image.

    Raises:
        RiftError: the side of the image is no multiple of 8.
    """
    prepare_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    if size % PATCHES:
        raise RiftError(
            f"vit-small: wants images whose side is a multiple of {PATCHES} pixels; these have {size}"
        )
    network = VisionTransformer(
        img_size=size,
        patch_size=size // PATCHES,
        in_chans=channels,
        num_classes=classes,
        embed_dim=384,
        depth=12,
        num_heads=6,
    )
    return _repeatable(network)


def timm_network(name: str, classes: int, channels: int, size: int) -> nn.Module:
    """Make a network of timm, freshly initialised.

    Args:
        name: as timm lists it.
        classes: number of logits.
        channels: of the images.
        size: side of the images in pixels.

    Raises:
        RiftError: timm has no such network, or it cannot be made for such images.
    """
    prepare_torchvision()
    import timm

    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3)
        advice = f"; it has {', '.join(near)}" if near else ""
        raise RiftError(
            f"architecture 'timm:{name}': timm {timm.__version__} has no such network{advice}"
        )
    settings = {"pretrained": False, "num_classes": classes, "in_chans": channels}
    wanted = f"architecture 'timm:{name}': cannot be made for {channels}×{size}×{size} images and {classes} classes"
    try:
        try:
            network = timm.create_model(name, img_size=size, **settings)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            network = timm.create_model(
                name, **settings
            )  # one that does not ask, such as most convolutional ones
        # Many find out only from an image that it is too small for them.
        with torch.no_grad():
            logits = network.eval()(torch.zeros(1, channels, size, size))
    except Exception as error:  # timm's networks refuse in all ways there are
        raise RiftError(f"{wanted}: {first_line(error)}") from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, classes):
        raise RiftError(f"{wanted}: what it returns are not their logits")
    return _repeatable(network.train())


def _repeatable(network: nn.Module) -> nn.Module:
    """Choose the plain form of attention: the backward pass of torch's fused ones may add in any order on a GPU."""
    for module in network.modules():
        if "fused_attn" in vars(module):
            vars(module)["fused_attn"] = False
    return network
