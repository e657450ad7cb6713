"""Arrays of images that may be larger than the memory.

Above a limit, an array is a memory map of a file, and images are read when they are used.
"""

import os
import tempfile
from collections.abc import Sequence

import numpy as np

from rift.artifacts import Array
from rift.errors import RiftError

LIMIT = "RIFT_MEMORY_MIB"
"""Environment variable with the limit in MiB; it changes no result."""

LIMIT_MIB = 2048
"""Largest array of images that is kept in memory by default, in MiB."""

PART_BYTES = 2**20
"""Size of the parts in which large arrays are copied, in bytes."""


def limit() -> int:
    """Return the size of the largest array of images that is kept in memory, in bytes.

    Raises:
        RiftError: the environment variable is not a number ≥ 0.
    """
    text = os.environ.get(LIMIT) or str(LIMIT_MIB)
    if not text.isdecimal():
        raise RiftError(f"${LIMIT}: is {text}; set it to a number of MiB, such as {LIMIT_MIB}")
    return int(text) * 2**20


def is_mapped(array: Array) -> bool:
    """Return whether an array is read from a file when it is used."""
    return isinstance(array, np.memmap)


def empty_images(shape: Sequence[int]) -> Array:
    """Return an array for images, uint8, with undefined values.

    A large one is a temporary file in ``$TMPDIR`` without a name. The system removes it when no
    array uses it.

    Raises:
        RiftError: the temporary file cannot be created.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size <= limit():
        return np.empty(shape, dtype=np.uint8)
    try:
        with tempfile.TemporaryFile() as file:
            # The disk must have the space now: a full disk would end the process later.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=np.uint8, mode="r+", shape=tuple(shape))
    except OSError as error:
        raise RiftError(
            f"{tempfile.gettempdir()}: cannot hold {size / 2**20:,.0f} MiB of images"
            f" ({error.strerror}); set TMPDIR to a folder with more space"
        ) from error


def chosen_images(images: Array, chosen: Array) -> Array:
    """Return a copy of some images, which is small or a temporary file.

    Args:
        images: uint8, N×C×H×W.
        chosen: mask of the images, bool, N.

    Raises:
        RiftError: a temporary file cannot be created.
    """
    places = np.flatnonzero(chosen)
    copied = empty_images((len(places), *images.shape[1:]))
    for part in parts_of(copied):
        copied[part] = images[places[part]]
    return copied


def parts_of(images: Array) -> list[slice]:
    """Return slices that cut an array into parts of about ``PART_BYTES``, in order."""
    step = max(1, PART_BYTES // max(1, int(np.prod(images.shape[1:], dtype=np.int64))))
    return [slice(start, start + step) for start in range(0, len(images), step)]
