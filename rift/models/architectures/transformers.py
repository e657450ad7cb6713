"""Networks from the timm package.

``vit`` makes small vision transformers, such as the one that adversarial training commonly uses.
``timm_network`` returns any other network by its timm name.
"""

from difflib import get_close_matches

import torch
from torch import nn

from rift.errors import RiftError, first_line
from rift.thirdparty import prepare_torchvision

PATCHES = 8
"""Number of patches per side; a patch is 4 pixels wide on CIFAR and 8 on Tiny-ImageNet."""


def vit(classes: int, channels: int, size: int, *, width: int, depth: int, heads: int) -> nn.Module:
    """Return a randomly initialised vision transformer with 8 × 8 patches.

    Args:
        classes: number of classes.
        channels: number of image channels.
        size: image size in pixels, a multiple of 8.
        width: length of the vector of a patch.
        depth: number of blocks.
        heads: number of heads of each attention, a divisor of the width.

    Raises:
        RiftError: the image size is not a multiple of 8.
    """
    prepare_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    if size % PATCHES:
        raise RiftError(
            f"vision transformer: the image size must be a multiple of {PATCHES} pixels, but it is"
            f" {size}; choose another architecture"
        )
    network = VisionTransformer(
        img_size=size,
        patch_size=size // PATCHES,
        in_chans=channels,
        num_classes=classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
    )
    return _repeatable(network)


def timm_network(name: str, classes: int, channels: int, size: int) -> nn.Module:
    """Return a randomly initialised timm network.

    Args:
        name: name of the network in timm.
        classes: number of classes.
        channels: number of image channels.
        size: image size in pixels.

    Raises:
        RiftError: timm does not contain the network, or the network does not support images of this
            shape.
    """
    prepare_torchvision()
    import timm

    if not timm.is_model(name):
        similar = get_close_matches(name, timm.list_models(), n=3)
        advice = ", ".join(similar) if similar else "a name from timm.list_models()"
        raise RiftError(
            f"architecture 'timm:{name}': timm {timm.__version__} does not contain this network;"
            f" choose {advice}"
        )
    settings = {"pretrained": False, "num_classes": classes, "in_chans": channels}
    problem = (
        f"architecture 'timm:{name}': cannot be built for {channels}×{size}×{size} images and"
        f" {classes} classes"
    )
    try:
        try:
            network = timm.create_model(name, img_size=size, **settings)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            # Most convolutional networks have no argument for the image size.
            network = timm.create_model(name, **settings)
        # Many networks reject images that are too small only in the forward pass.
        with torch.no_grad():
            logits = network.eval()(torch.zeros(1, channels, size, size))
    # timm's networks can raise any exception.
    except Exception as error:
        raise RiftError(f"{problem}: {first_line(error)}; choose another architecture") from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, classes):
        raise RiftError(
            f"{problem}: it does not return one logit per class; choose another architecture"
        )
    return _repeatable(network.train())


def _repeatable(network: nn.Module) -> nn.Module:
    """Return the network with fused attention disabled; the network is changed in place."""
    # On a GPU, the backward pass of fused attention in torch sums in no fixed order, so its results
    # would not be reproducible.
    for module in network.modules():
        if "fused_attn" in vars(module):
            vars(module)["fused_attn"] = False
    return network
