"""Augmentation of a whole batch at once, on its device."""

import torch

from rift.config import Augment
from rift.errors import RiftError


def augment(images: torch.Tensor, settings: Augment, generator: torch.Generator) -> torch.Tensor:
    """Crop and flip every image on its own.

    Args:
        images: uint8, N×C×H×W.
        settings: largest shift (smaller than the images) and whether to flip.
        generator: on the device of the images.

    Returns:
        Images of the same shape and type: each shifted by up to ``crop`` pixels in both directions, what that uncovers
        filled with the reflection (as padding by ``crop`` with reflection and cropping at random), half of them mirrored.

    Raises:
        RiftError: the shift is as large as the images.
    """
    count, _, height, width = images.shape
    if settings.crop >= min(height, width):
        raise RiftError(
            f"augment.crop: a shift by {settings.crop} pixels is too large for images of {height} × {width}"
        )
    device = images.device

    def source(length: int) -> torch.Tensor:
        """For each image and each pixel along one side: which pixel it is taken from, N×length."""
        shift = torch.randint(-settings.crop, settings.crop + 1, (count, 1), generator=generator, device=device)
        index = (torch.arange(length, device=device) + shift).abs()  # reflected at the first pixel …
        return (length - 1) - ((length - 1) - index).abs()  # … and at the last

    rows, columns = source(height), source(width)
    if settings.flip:
        mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    which = torch.arange(count, device=device)[:, None, None]
    # Advanced indices around the channel slice put it last.
    return images[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
