"""Augmentation of a batch, on its device."""

from functools import partial

import torch

from rift.config import Augment
from rift.data.images import Images
from rift.errors import RiftError


def augment(images: Images, settings: Augment, generator: torch.Generator) -> Images:
    """Return a batch in which every image is shifted and flipped at random.

    Each image is shifted by up to ``crop`` pixels in both directions, and the uncovered border is
    filled by reflection. This equals reflection padding by ``crop`` and a random crop. With
    ``flip``, each image is mirrored horizontally with probability 0.5.

    Args:
        images: batch of N images.
        settings: largest shift in pixels (smaller than the images), and whether to flip.
        generator: source of random numbers, on the device of the images.

    Raises:
        RiftError: ``crop`` is not smaller than the height and the width of the images.
    """
    return images.replaced(partial(_augmented, settings=settings, generator=generator))


def _augmented(images: torch.Tensor, settings: Augment, generator: torch.Generator) -> torch.Tensor:
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
