"""Augmentation of a whole batch at once, on its device."""

from functools import partial

import torch

from rift.config import Augment
from rift.data.images import Images
from rift.errors import RiftError


def augment(images: Images, settings: Augment, generator: torch.Generator) -> Images:
    """Crop and flip every image separately.

    Each image is shifted by up to ``crop`` pixels in both directions; reflection fills what the shift
    uncovers. This equals padding by ``crop`` with reflection and cropping at random. Half of the images
    are mirrored.

    Args:
        images: a batch.
        settings: largest shift (smaller than the images) and whether to flip.
        generator: on the device of the images.

    Raises:
        RiftError: the shift is as large as the images.
    """
    return images.replaced(partial(_augmented, settings=settings, generator=generator))


def _augmented(images: torch.Tensor, settings: Augment, generator: torch.Generator) -> torch.Tensor:
    count, _, height, width = images.shape
    if settings.crop >= min(height, width):
        raise RiftError(
            f"augment.crop: a shift by {settings.crop} pixels is too large for images of {height} ×"
            f" {width}"
        )
    device = images.device

    def source(length: int) -> torch.Tensor:
        """Return which pixel each pixel along one side is taken from, N×length."""
        shift = torch.randint(
            -settings.crop, settings.crop + 1, (count, 1), generator=generator, device=device
        )
        index = (
            torch.arange(length, device=device) + shift
        ).abs()  # reflected at the first pixel …
        return (length - 1) - ((length - 1) - index).abs()  # … and at the last

    rows, columns = source(height), source(width)
    if settings.flip:
        mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    which = torch.arange(count, device=device)[:, None, None]
    # Advanced indices around the channel slice put it last.
    return images[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
