"""Data sets of users that are arrays in one file."""

import hashlib
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from rift.artifacts import Array
from rift.data.sources.source import Dataset, Source
from rift.errors import RiftError


def array_file(name: str) -> Dataset:
    """Return the data set of ``NAME.npz`` in the data root.

    The file contains ``train_images`` and ``train_labels``, and optionally ``test_images``,
    ``test_labels`` and ``classes``. Images are square, N×C×H×W, N×H×W×C or N×H×W, with one or three
    channels: uint8, or floats that are multiples of 1/255 in [0, 1]. Labels count from 0.

    Args:
        name: name of the file without its ending.
    """

    def read(root: Path) -> Source:
        path = root / f"{name}.npz"
        arrays, digest = _loaded(path)
        labels = _labels(path, arrays, "train")
        count = int(labels.max()) + 1
        given = arrays.get("classes", np.arange(count))
        classes = tuple(str(each) for each in given)
        if not 2 <= count == len(classes) == len(np.unique(labels)):
            names = f", and {len(classes)} names" if "classes" in arrays else ""
            raise RiftError(
                f"{path}: train_labels must contain every class from 0 to the last, at least two,"
                f" and classes a name for each; found are {len(np.unique(labels))} labels from"
                f" {labels.min()} to {count - 1}{names}"
            )
        checksums = {path.name: digest}
        if "test_images" not in arrays:
            return Source(_images(path, arrays, "train"), labels, classes, checksums)
        test_labels = _labels(path, arrays, "test")
        if test_labels.max() >= count:
            raise RiftError(
                f"{path}: test_labels contain {test_labels.max()}, which train_labels lack"
            )
        images, test_images = (_images(path, arrays, split) for split in ("train", "test"))
        if images.shape[1:] != test_images.shape[1:]:
            raise RiftError(
                f"{path}: training images have the shape {images.shape[1:]}, but test images"
                f" {test_images.shape[1:]}; give both the same"
            )
        return Source(images, labels, classes, checksums, test_images, test_labels)

    return Dataset(read, raw=(f"{name}.npz",))


def _loaded(path: Path) -> tuple[dict[str, Array], str]:
    """Return the arrays of a file, and its sha256. Nothing in the file can run code."""
    try:
        content = path.read_bytes()
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise RiftError(f"{path}: is missing; put the file there, or set data.root") from error
    except (OSError, ValueError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
        raise RiftError(
            f"{path}: is no .npz file of plain arrays; write it with numpy.savez"
        ) from error
    lacking = sorted({"train_images", "train_labels"} - set(arrays))
    if ("test_images" in arrays) != ("test_labels" in arrays):
        lacking += sorted({"test_images", "test_labels"} - set(arrays))
    if lacking:
        raise RiftError(f"{path}: lacks {', '.join(lacking)}; it contains {', '.join(arrays)}")
    return arrays, hashlib.sha256(content).hexdigest()


def _labels(path: Path, arrays: dict[str, Array], split: str) -> Array:
    labels, images = arrays[f"{split}_labels"], arrays[f"{split}_images"]
    wrong = labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels)
    if wrong or len(labels) != len(images) or labels.min() < 0:
        found = f"{labels.dtype} of shape {labels.shape}"
        if not wrong and labels.min() < 0:
            found = f"the label {labels.min()}"
        raise RiftError(
            f"{path}: {split}_labels must be one whole number from 0 on for each of the"
            f" {len(images)} images; found is {found}"
        )
    return labels.astype(np.int64)


def _images(path: Path, arrays: dict[str, Array], split: str) -> Array:
    """Return images as uint8, N×C×H×W."""
    images, what = arrays[f"{split}_images"], f"{path}: {split}_images"
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = np.moveaxis(images, 3, 1)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
        raise RiftError(
            f"{what} must be square images with one or three channels, N×C×H×W, N×H×W×C or N×H×W;"
            f" found is the shape {arrays[f'{split}_images'].shape}"
        )
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind != "f" or not np.isfinite(images).all():
        found = "NaN or infinity" if images.dtype.kind == "f" else images.dtype
        raise RiftError(f"{what} must be uint8, or floats in [0, 1]; found is {found}")
    scaled = images.astype(np.float64) * 255
    rounded = scaled.round()
    if rounded.min() < 0 or rounded.max() > 255 or np.abs(scaled - rounded).max() > 0.01:
        raise RiftError(
            f"{what} must be uint8, or floats in [0, 1] that are multiples of 1/255, because rift"
            f" stores 8 bits; found are values from {images.min():g} to {images.max():g}; convert"
            " them, for example by (255 * images).round().astype('uint8')"
        )
    return rounded.astype(np.uint8)
