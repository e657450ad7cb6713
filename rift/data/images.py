"""Images with labels, on one device: what the core computes on.

The core uses ``len``, ``labels``, ``device``, ``take``, ``batches`` and ``floats``, and nothing else, so
that sets in memory and sets that stream from disk are the same to it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rift.errors import RiftError

BATCH_SIZE = 500
"""Images at once where the result does not depend on it."""

MEMORY_MIB = 8192
"""A data set that needs more memory than this is streamed."""

Reader = Callable[[int], tuple[Any, Any]]


class Images:
    """Images (N×C×H×W, uint8 or float32 in [0, 1]) and their labels (int64, N), both on one device.

    Make them with ``Images.of``, which checks what it is given.

    Attributes:
        labels: int64, N, on the device.
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
        """Take images of any common form.

        Args:
            images: N×C×H×W as a torch or numpy array, uint8 or floats in [0, 1]; or a torch
                ``Dataset`` or ``DataLoader`` of such images (C×H×W or a batch of them) with labels.
                A PIL image counts as uint8.
            labels: N whole numbers from 0; None where the images bring their own.
            device: where the core computes.
            memory_mib: a ``Dataset`` or ``DataLoader`` that needs more memory is read from its
                source whenever images are needed.

        Raises:
            RiftError: images have another type, shape or range, or labels do not belong to them.
        """
        if isinstance(images, Images):
            return images.to(device)
        if isinstance(images, DataLoader | Dataset):
            if labels is not None:
                raise RiftError(
                    "images: a Dataset or DataLoader brings its own labels; omit labels"
                )
            return _of_dataset(images, torch.device(device), memory_mib)
        if labels is None:
            raise RiftError("labels: are missing; only a Dataset or DataLoader brings its own")
        pixels = _checked_pixels(images)
        return cls(pixels.to(device), _checked_labels(labels, len(pixels)).to(device))

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
        """Return some of the images, by their places or as a slice."""
        return Images(self._pixels[index], self.labels[index])

    def batches(self, size: int = BATCH_SIZE) -> Iterator["Images"]:
        """Yield all images in their order, ``size`` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def floats(self) -> Tensor:
        """Return the images as float32 in [0, 1], N×C×H×W, channels last in memory."""
        if self._pixels.dtype != torch.uint8:
            return self._pixels.to(memory_format=torch.channels_last)
        return self._pixels.to(torch.float32, memory_format=torch.channels_last) / 255

    def replaced(self, change: Callable[[Tensor], Tensor]) -> "Images":
        """Return images changed by a function of the stored values, uint8 or float32, N×C×H×W."""
        return Images(change(self._pixels), self.labels)

    def first(self, images: int | Literal["all"], setting: str) -> "Images":
        """Return the first images only.

        Args:
            images: how many, or all.
            setting: the key that asked for them, for the message.

        Raises:
            RiftError: there are fewer.
        """
        if images == "all":
            return self
        if images > len(self):
            raise RiftError(f"{setting}: {images} images asked for, but the split has {len(self)}")
        return self.up_to(images)

    def up_to(self, images: int) -> "Images":
        """Return the first images only, all if there are fewer."""
        return self.take(slice(0, images))

    def to(self, device: str | torch.device) -> "Images":
        """Return the images on a device."""
        return Images(self._pixels.to(device), self.labels.to(device))


class StreamedImages(Images):
    """Images that are read from their source whenever they are needed, by several threads."""

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
        """Return some of the images: in memory by their places, still streamed as a slice."""
        if isinstance(index, slice):
            return StreamedImages(self._read, self._places[index], self.labels[index], self._shape)
        places = index.tolist() if index.dtype != torch.bool else index.nonzero()[:, 0].tolist()
        return self._loaded([self._places[place] for place in places], self.labels[index])

    def batches(self, size: int = BATCH_SIZE) -> Iterator[Images]:
        """Yield all images in their order, in memory, ``size`` at a time."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield self._loaded(self._places[part], self.labels[part])

    def floats(self) -> Tensor:
        """Return all images at once, float32 in [0, 1]: they must fit into memory."""
        return self._loaded(self._places, self.labels).floats()

    def replaced(self, change: Callable[[Tensor], Tensor]) -> Images:
        """Return images changed by a function of the stored values, in memory."""
        return self._loaded(self._places, self.labels).replaced(change)

    def to(self, device: str | torch.device) -> Images:
        """Return images that are put on another device when they are read."""
        return StreamedImages(self._read, self._places, self.labels.to(device), self._shape)

    def _loaded(self, places: Sequence[int], labels: Tensor) -> Images:
        with ThreadPoolExecutor() as pool:
            loaded = list(pool.map(lambda place: _one_image(self._read(place)[0]), places))
        return Images(_checked_pixels(torch.stack(loaded)).to(self.device), labels)


def _checked_pixels(images: object) -> Tensor:
    """Return images as uint8 or float32, N×C×H×W.

    Raises:
        RiftError: they are of another type, shape or range.
    """
    if not isinstance(images, Tensor | np.ndarray):
        raise RiftError(
            f"images: a {type(images).__name__} is neither a torch nor a numpy array, and no Dataset"
        )
    pixels = torch.from_numpy(images) if isinstance(images, np.ndarray) else images.detach()
    if pixels.ndim != 4:
        raise RiftError(f"images: have shape {tuple(pixels.shape)}; they must be N×C×H×W")
    if pixels.shape[1] > 4 >= pixels.shape[3]:
        raise RiftError(
            f"images: have shape {tuple(pixels.shape)}, channels last; permute them to N×C×H×W"
        )
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise RiftError(
            f"images: are {pixels.dtype}; convert them to torch.uint8 or to floats in [0, 1]"
        )
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= 1):  # also where they are not a number
        raise RiftError(
            f"images: floats must be in [0, 1], but these are in [{low:g}, {high:g}]; divide by 255,"
            " or undo the normalisation: it belongs into the model"
        )
    return pixels.to(torch.float32)


def _checked_labels(labels: object, count: int) -> Tensor:
    """Return labels as int64, N.

    Raises:
        RiftError: they are not whole numbers from 0, or not one per image.
    """
    found = torch.as_tensor(cast("Any", labels)).detach()
    if found.ndim != 1 or len(found) != count:
        raise RiftError(f"labels: have shape {tuple(found.shape)}, but there are {count} images")
    if found.is_floating_point() or found.dtype == torch.bool:
        raise RiftError(f"labels: are {found.dtype}; they must be whole numbers from 0")
    if count and int(found.min()) < 0:
        raise RiftError(f"labels: contain {int(found.min())}; they must be whole numbers from 0")
    return found.to(torch.int64)


def _one_image(image: object) -> Tensor:
    """Return one image, C×H×W, as a tensor."""
    if isinstance(image, Tensor):
        return image
    if hasattr(image, "convert"):  # a PIL image, without an import of PIL
        array = np.asarray(image)
        return torch.from_numpy(np.atleast_3d(array).transpose(2, 0, 1).copy())
    return torch.as_tensor(cast("Any", image))


def _of_dataset(
    source: "DataLoader[Any] | Dataset[Any]", device: torch.device, memory_mib: int
) -> Images:
    """Read a data set into memory, or describe how it is streamed if it is too large.

    Raises:
        RiftError: it is empty, has no length, or does not return images with labels.
    """
    dataset = source.dataset if isinstance(source, DataLoader) else source
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise RiftError("images: a Dataset needs a length and a place for each image")
    count = len(dataset)
    if count == 0:
        raise RiftError("images: the Dataset is empty")
    first, _ = _pair(dataset[0])
    pixels = _checked_pixels(_one_image(first)[None])
    if count * pixels.nbytes > memory_mib * 2**20:
        labels = [_pair(dataset[place])[1] for place in range(count)]
        return StreamedImages(
            lambda place: _pair(dataset[place]),
            range(count),
            _checked_labels(labels, count).to(device),
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


def _pair(item: object) -> tuple[Any, Any]:
    """Return image and label of what a data set returned.

    Raises:
        RiftError: it is not a pair.
    """
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise RiftError(
            f"images: the Dataset returns a {type(item).__name__}, not a pair of image and label"
        )
    return item[0], item[1]
