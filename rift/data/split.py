"""One split on a device, and the order in which it is gone through."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rift.data import Prepared
from rift.errors import RiftError

BATCH_SIZE = 500  # images at once where the result does not depend on it


class Split(NamedTuple):
    """Images (uint8, N×C×H×W) and their labels (int64, N), both on one device."""

    images: Tensor
    labels: Tensor

    def first(self, images: int | Literal["all"], setting: str) -> "Split":
        """Return the first images only.

        Raises:
            RiftError: there are fewer; ``setting`` names the key that asked for them.
        """
        if images == "all":
            return self
        if images > len(self.labels):
            raise RiftError(f"{setting}: {images} images asked for, but the split has {len(self.labels)}")
        return self.up_to(images)

    def up_to(self, images: int) -> "Split":
        """Return the first images only, all if there are fewer."""
        return Split(self.images[:images], self.labels[:images])

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


def split_of(prepared: Prepared, name: str, device: str | torch.device = "cpu") -> Split:
    """Put a split of a prepared set on a device."""
    return Split(torch.from_numpy(prepared.images[name]).to(device), torch.from_numpy(prepared.labels[name]).to(device))


def to_float(images: Tensor) -> Tensor:
    """Turn uint8 images into float32 in [0, 1], channels last in memory: convolutions are faster so."""
    return images.to(torch.float32, memory_format=torch.channels_last) / 255


def shuffled(count: int, generator: torch.Generator) -> Tensor:
    """Draw the order of one pass: the index of every image."""
    return torch.randperm(count, generator=generator, device=generator.device)


def batches(order: Tensor, batch_size: int, least: int = 2) -> list[Tensor]:
    """Cut the order of a pass into batches.

    A last batch of fewer than ``least`` images joins the one before it: batch norm cannot normalise one value.
    """
    cut = list(order.split(batch_size))
    if len(cut) > 1 and len(cut[-1]) < least:
        cut[-2:] = [torch.cat(cut[-2:])]
    return cut


def in_order(data: Split) -> Iterator[Split]:
    """Go through a split in its own order, a batch at a time."""
    for images, labels in zip(data.images.split(BATCH_SIZE), data.labels.split(BATCH_SIZE), strict=True):
        yield Split(images, labels)
