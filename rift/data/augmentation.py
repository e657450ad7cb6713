"""Augmentation of a batch, on its device."""

from functools import partial
from math import log

import torch
from torch.nn import functional

from rift.config import Augment
from rift.data.images import Images
from rift.errors import RiftError


def augment(images: Images, settings: Augment, generator: torch.Generator) -> Images:
    """Return a batch in which every image is cropped and flipped at random.

    Each image is shifted by up to ``crop`` pixels in both directions, and the uncovered border is
    filled by reflection. This equals reflection padding by ``crop`` and a random crop. With
    ``smallest_area``, a part of each image is cut out and resized to the whole size instead
    (``resized_crops``). With ``flip``, each image is mirrored horizontally with probability 0.5.

    Args:
        images: batch of N images.
        settings: largest shift in pixels (smaller than the images) or smallest area of a part, and
            whether to flip.
        generator: source of random numbers, on the device of the images.

    Raises:
        RiftError: ``crop`` is not smaller than the height and the width of the images.
    """
    if settings.smallest_area is not None:
        change = partial(resized_crops, smallest_area=settings.smallest_area, flip=settings.flip)
        return images.replaced(partial(change, generator=generator))
    return images.replaced(partial(_shifted, settings=settings, generator=generator))


def resized_crops(
    images: torch.Tensor, smallest_area: float, *, flip: bool, generator: torch.Generator
) -> torch.Tensor:
    """Return a random part of every image, resized to the size of the image (bilinear).

    As in the usual training on ImageNet, the share of the area is uniform, and the logarithm of the
    ratio of width to height is, between 3/4 and 4/3. A part that is wider or higher than the image
    is cut off there.

    Args:
        images: uint8 or floats, N×C×H×W.
        smallest_area: smallest share of the area of a part: in (0, 1].
        flip: whether to mirror each part horizontally with probability 0.5.
        generator: source of random numbers, on the device of the images.
    """
    count, device = len(images), images.device

    def uniform(least: float, most: float) -> torch.Tensor:
        return least + (most - least) * torch.rand(count, generator=generator, device=device)

    area, ratio = uniform(smallest_area, 1), uniform(log(3 / 4), log(4 / 3)).exp()
    # Sizes and centres in the coordinates of grid_sample, in which an image reaches from -1 to 1.
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    x, y = ((1 - side) * uniform(-1, 1) for side in (width, height))
    if flip:
        width = torch.where(uniform(0, 1) < 0.5, -width, width)
    zero = torch.zeros_like(x)
    parts = torch.stack([width, zero, x, zero, height, y], dim=1).view(count, 2, 3)
    grid = functional.affine_grid(parts, list(images.shape), align_corners=False)
    resized = functional.grid_sample(
        images.to(grid.dtype), grid, padding_mode="border", align_corners=False
    )
    return resized if images.is_floating_point() else resized.round().to(images.dtype)


def _shifted(images: torch.Tensor, settings: Augment, generator: torch.Generator) -> torch.Tensor:
    count, _, height, width = images.shape
    if settings.crop >= min(height, width):
        raise RiftError(
            f"augment.crop: a shift by {settings.crop} pixels is too large for images of {height} ×"
            f" {width}; choose at most {min(height, width) - 1}"
        )
    device = images.device

    def source(length: int) -> torch.Tensor:
        """Return the source index of each pixel along one side, N×length."""
        shift = torch.randint(
            -settings.crop, settings.crop + 1, (count, 1), generator=generator, device=device
        )
        # The two absolute values reflect at the first and at the last pixel.
        index = (torch.arange(length, device=device) + shift).abs()
        return (length - 1) - ((length - 1) - index).abs()

    rows, columns = source(height), source(width)
    if settings.flip:
        mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(count, device=device)[:, None, None]
    # Advanced indices on both sides of the channel slice move the channels to the end.
    return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
