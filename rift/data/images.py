"""Images with labels on one device, in memory or streamed from their source.

The core computes on ``Images``. It handles sets in memory and streamed sets alike, because both
have the same methods.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, default_convert

from rift.errors import RiftError

BATCH_SIZE = 500
"""Number of images per batch where the result does not depend on it."""

MEMORY_MIB = 8192
"""Memory limit for a data set, in MiB; a larger one is streamed."""

Reader = Callable[[int], tuple[Any, Any]]


class Images:
    """Images (N×C×H×W, uint8 or float32 in [0, 1]) and their labels (int64, N) on one device.

    Create them with ``Images.of``, which checks its input.

    Attributes:
        labels: class of each image: int64, N, on the device.
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self._pixels = pixels
        self.labels = labels

    @classmethod
    def of(
        cls,
        images: object,
        labels: object = None,
        *,
        device: str | torch.device = "cpu",
        memory_mib: int = MEMORY_MIB,
    ) -> "Images":
        """Return images and labels of any common type as ``Images``.

        Args:
            images: torch tensor or numpy array, N×C×H×W, uint8 or floats in [0, 1]; or torch
                ``Dataset`` or ``DataLoader`` of such images (C×H×W or batches of them) with labels.
                A PIL image counts as uint8.
            labels: integers ≥ 0, N; None for a ``Dataset`` or ``DataLoader``.
            device: device of the result.
            memory_mib: memory limit in MiB; a ``Dataset`` or ``DataLoader`` that needs more is
                read from its source whenever images are needed.

        Raises:
            RiftError: the images have another type, shape or range, or the labels are not N
                integers ≥ 0.
        """
        if isinstance(images, Images):
            return images.to(device)
        if isinstance(images, DataLoader | Dataset):
            if labels is not None:
                raise RiftError(
                    "images: a Dataset or DataLoader contains its own labels; omit labels"
                )
            return _of_dataset(images, torch.device(device), memory_mib)
        if labels is None:
            raise RiftError(
                "labels: are missing; pass them, or pass a Dataset or DataLoader that contains them"
            )
        pixels = _checked_pixels(images)
        return cls(pixels.to(device), _checked_labels(labels, len(pixels)).to(device))

    @classmethod
    def mapped(
        cls, images: np.ndarray, labels: object, *, device: str | torch.device = "cpu"
    ) -> "Images":
        """Return images that are read from a file whenever they are needed.

        Args:
            images: memory map, uint8, N×C×H×W.
            labels: integers ≥ 0, N.
            device: device of the labels, and of images when they are read.

        Raises:
            RiftError: the labels are not N integers ≥ 0.
        """
        return MappedImages(
            images, range(len(images)), _checked_labels(labels, len(images)).to(device)
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Return the device of images and labels."""
        return self.labels.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width."""
        channels, height, width = self._pixels.shape[1:]
        return channels, height, width

    def take(self, index: Tensor | slice) -> "Images":
        """Return some of the images.

        Args:
            index: positions (int64), mask (bool, N) or slice.
        """
        return Images(self._pixels[index], self.labels[index])

    def batches(self, size: int = BATCH_SIZE) -> Iterator["Images"]:
        """Yield all images in order, in batches of ``size``; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def floats(self) -> Tensor:
        """Return the images as float32 in [0, 1], N×C×H×W, in the channels-last memory format."""
        if self._pixels.dtype != torch.uint8:
            return self._pixels.to(memory_format=torch.channels_last)
        return self._pixels.to(torch.float32, memory_format=torch.channels_last) / 255

    def replaced(self, change: Callable[[Tensor], Tensor]) -> "Images":
        """Return the images after a function of the stored values, and the same labels.

        Args:
            change: function of images (uint8 or float32, N×C×H×W) → images of the same type and
                number.
        """
        return Images(change(self._pixels), self.labels)

    def first(self, images: int | Literal["all"], setting: str) -> "Images":
        """Return the first images.

        Args:
            images: number of images, or ``all``.
            setting: configuration key that gives the number, for the message.

        Raises:
            RiftError: the set has fewer images.
        """
        if images == "all":
            return self
        if images > len(self):
            raise RiftError(
                f"{setting}: is {images}, but the split has {len(self)} images; choose at most"
                f" {len(self)}, or all"
            )
        return self.up_to(images)

    def up_to(self, images: int) -> "Images":
        """Return the first images, or all if the set has fewer."""
        return self.take(slice(0, images))

    def to(self, device: str | torch.device) -> "Images":
        """Return the images and labels on a device."""
        return Images(self._pixels.to(device), self.labels.to(device))


class StreamedImages(Images):
    """Images that several threads read from their source whenever they are needed.

    Args:
        read: function of a position in the source → (image, label).
        places: position of each image in the source, N.
        labels: int64, N, on the device of the result.
        shape: channels, height and width.
    """

    def __init__(
        self,
        read: Reader,
        places: Sequence[int],
        labels: Tensor,
        shape: tuple[int, int, int],
    ) -> None:
        self._read = read
        self._places = places
        self._shape = shape
        self.labels = labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return self._shape

    def take(self, index: Tensor | slice) -> Images:
        """Return some of the images: still streamed for a slice, else in memory."""
        if isinstance(index, slice):
            return self._with(self._places[index], self.labels[index])
        places = index.tolist() if index.dtype != torch.bool else index.nonzero()[:, 0].tolist()
        return self._loaded([self._places[place] for place in places], self.labels[index])

    def batches(self, size: int = BATCH_SIZE) -> Iterator[Images]:
        """Yield all images in order, in batches of ``size`` that are in memory."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield self._loaded(self._places[part], self.labels[part])

    def floats(self) -> Tensor:
        """Return all images as float32 in [0, 1], N×C×H×W; they must fit into memory."""
        return self._loaded(self._places, self.labels).floats()

    def replaced(self, change: Callable[[Tensor], Tensor]) -> Images:
        """Return the images after a function of the stored values; they must fit into memory."""
        return self._loaded(self._places, self.labels).replaced(change)

    def to(self, device: str | torch.device) -> Images:
        """Return the labels on a device, and images that move to it when they are read."""
        return self._with(self._places, self.labels.to(device))

    def _with(self, places: Sequence[int], labels: Tensor) -> Images:
        return StreamedImages(self._read, places, labels, self._shape)

    def _loaded(self, places: Sequence[int], labels: Tensor) -> Images:
        with ThreadPoolExecutor() as pool:
            loaded = list(pool.map(lambda place: _one_image(self._read(place)[0]), places))
        return Images(_checked_pixels(torch.stack(loaded)).to(self.device), labels)


class MappedImages(StreamedImages):
    """Images that are read from a memory map whenever they are needed.

    Args:
        pixels: memory map, uint8, with one image per position.
        places: position of each image, N.
        labels: int64, N, on the device of the result.
    """

    def __init__(self, pixels: np.ndarray, places: Sequence[int], labels: Tensor) -> None:
        super().__init__(
            lambda place: (pixels[place], None),
            places,
            labels,
            cast("tuple[int, int, int]", pixels.shape[1:]),
        )
        self._map = pixels

    def _with(self, places: Sequence[int], labels: Tensor) -> Images:
        return MappedImages(self._map, places, labels)

    def _loaded(self, places: Sequence[int], labels: Tensor) -> Images:
        # One copy of all: many small ones by several threads would fragment the memory.
        return Images(torch.from_numpy(self._map[np.asarray(places)]).to(self.device), labels)


def _checked_pixels(images: object) -> Tensor:
    """Return images as uint8 or float32, N×C×H×W.

    Raises:
        RiftError: the images have another type, shape or range.
    """
    if not isinstance(images, Tensor | np.ndarray):
        raise RiftError(
            f"images: a {type(images).__name__} is not supported; pass a torch tensor, a numpy"
            " array, a Dataset or a DataLoader"
        )
    pixels = torch.from_numpy(images) if isinstance(images, np.ndarray) else images.detach()
    if pixels.ndim != 4:
        raise RiftError(f"images: have shape {tuple(pixels.shape)}; they must be N×C×H×W")
    if pixels.shape[1] > 4 >= pixels.shape[3]:
        raise RiftError(
            f"images: have shape {tuple(pixels.shape)}, with channels last; permute to N×C×H×W"
        )
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise RiftError(
            f"images: are {pixels.dtype}; convert them to torch.uint8 or to floats in [0, 1]"
        )
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.numel() else (0.0, 0.0)
    # The negation also catches NaN.
    if not (low >= 0 and high <= 1):
        raise RiftError(
            f"images: floats must be in [0, 1], but these are in [{low:g}, {high:g}]; divide by"
            " 255, or remove the normalisation: it is part of the model"
        )
    return pixels.to(torch.float32)


def _checked_labels(labels: object, count: int) -> Tensor:
    """Return labels as int64, N.

    Raises:
        RiftError: the labels are not integers ≥ 0, or not one per image.
    """
    found = torch.as_tensor(cast("Any", labels)).detach()
    if found.ndim != 1 or len(found) != count:
        raise RiftError(
            f"labels: have shape {tuple(found.shape)}, but there are {count} images; pass one label"
            " per image"
        )
    if found.is_floating_point() or found.dtype == torch.bool:
        raise RiftError(f"labels: are {found.dtype}; convert them to integers from 0")
    if count and int(found.min()) < 0:
        raise RiftError(f"labels: contain {int(found.min())}; they must be integers from 0")
    return found.to(torch.int64)


def _one_image(image: object) -> Tensor:
    """Return one image as a tensor, C×H×W."""
    if isinstance(image, Tensor):
        return image
    # A PIL image is recognised by its method, so that PIL need not be imported.
    if hasattr(image, "convert"):
        array = np.asarray(image)
        return torch.from_numpy(np.atleast_3d(array).transpose(2, 0, 1).copy())
    return torch.as_tensor(cast("Any", image))


def _of_dataset(
    source: "DataLoader[Any] | Dataset[Any]", device: torch.device, memory_mib: int
) -> Images:
    """Read a torch data set into memory, or stream it if it needs more than ``memory_mib``.

    Raises:
        RiftError: the data set is empty, has no length, or does not return images with labels.
    """
    dataset = source.dataset if isinstance(source, DataLoader) else source
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise RiftError("images: the Dataset must define __len__ and __getitem__")
    count = len(dataset)
    if count == 0:
        raise RiftError("images: the Dataset is empty; pass at least one image")
    first, _ = _pair(dataset[0])
    pixels = _checked_pixels(_one_image(first)[None])
    if count * pixels.nbytes > memory_mib * 2**20:
        places = _places(source) if isinstance(source, DataLoader) else range(count)
        labels = [_pair(dataset[place])[1] for place in places]
        return StreamedImages(
            lambda place: _pair(dataset[place]),
            places,
            _checked_labels(labels, len(places)).to(device),
            cast("tuple[int, int, int]", tuple(pixels.shape[1:])),
        )
    if isinstance(source, DataLoader):
        pairs = [_pair(batch) for batch in source]
        images = torch.cat([torch.as_tensor(batch) for batch, _ in pairs])
        labels = torch.cat([torch.as_tensor(batch) for _, batch in pairs]).tolist()
    else:
        pairs = [_pair(dataset[place]) for place in range(count)]
        images = torch.stack([_one_image(image) for image, _ in pairs])
        labels = [int(label) for _, label in pairs]
    return Images(
        _checked_pixels(images).to(device), _checked_labels(labels, len(images)).to(device)
    )


def _places(loader: "DataLoader[Any]") -> list[int]:
    """Return the positions that a DataLoader reads from its data set, in order.

    Raises:
        RiftError: it changes images when it joins them, which streaming would skip.
    """
    if loader.collate_fn not in (default_collate, default_convert):
        raise RiftError(
            "images: a DataLoader with a collate_fn of its own does not fit into memory and cannot"
            " be streamed; pass a Dataset that returns the images as they should be"
        )
    if loader.batch_sampler is None:
        return list(loader.sampler)
    return [place for batch in loader.batch_sampler for place in batch]


def _pair(item: object) -> tuple[Any, Any]:
    """Return the image and the label of an item of a data set.

    Raises:
        RiftError: the item is not a pair.
    """
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise RiftError(
            f"images: the Dataset returns a {type(item).__name__}; it must return pairs of image"
            " and label"
        )
    return item[0], item[1]
