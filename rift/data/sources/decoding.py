"""Decoding of many image files on all cores."""

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rift.artifacts import Array
from rift.data.memory import empty_images
from rift.errors import RiftError

if TYPE_CHECKING:
    from PIL import Image


MOST_PIXELS = 50_000_000
"""Largest image that is decoded, in pixels."""

MOST_ELONGATED = 50
"""Largest ratio of the sides of an image; the longer side of a resized image grows with it."""


def resized(image: "Image.Image", side: int) -> "Image.Image":
    """Resize the shorter side to 8/7 of ``side``, and return the middle, side × side pixels."""
    from PIL import Image

    width, height = image.size
    shorter = round(side * 8 / 7)
    scale = shorter / min(width, height)
    size = max(side, round(width * scale)), max(side, round(height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return image.crop((left, top, left + side, top + side))


def decode(paths: Sequence[Path], side: int, *, any_size: bool = False) -> tuple[Array, str]:
    """Read image files as square RGB images.

    Args:
        paths: paths of the N files, in the order of the result.
        side: side of every image in pixels.
        any_size: whether the files are JPEG or PNG images of any size. The shorter side is resized
            to 8/7 of ``side``, and the middle is cut out. Images of ``side`` × ``side`` pixels stay
            as they are. Otherwise the files must be JPEG images of this size.

    Returns:
        Images, uint8, N×3×side×side, and one sha256 over all files in order. Many images are in a
        temporary file (``empty_images``).

    Raises:
        RiftError: a file cannot be read, is damaged, or has another size.
    """
    from PIL import Image

    formats = ["JPEG", "PNG"] if any_size else ["JPEG"]
    again = "replace or remove the file" if any_size else "unpack the data set again"
    images = empty_images((len(paths), 3, side, side))

    def read(index: int) -> bytes:
        path = paths[index]
        try:
            content = path.read_bytes()
            # Pillow opens many formats, and some start other programs.
            image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
            # The size is checked before decoding: a small file may describe a huge image.
            width, height = image.size
            if any_size and width * height > MOST_PIXELS:
                raise RiftError(
                    f"{path}: has {width} × {height} pixels, more than {MOST_PIXELS:,}; {again}"
                )
            if any_size and max(width, height) > MOST_ELONGATED * min(width, height):
                raise RiftError(
                    f"{path}: has {width} × {height} pixels; one side is more than"
                    f" {MOST_ELONGATED} times the other; {again}"
                )
            if image.mode.startswith(("I", "F")):
                # Pillow would cut these values off at 255, and nearly all pixels would be white.
                raise RiftError(
                    f"{path}: has more than 8 bits per pixel; convert it to 8 bits, or {again}"
                )
            if any_size and image.size != (side, side):
                image = resized(image.convert("RGB"), side)
            if image.size == (side, side):
                images[index] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except FileNotFoundError as error:
            raise RiftError(f"{path}: is missing; {again}") from error
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise RiftError(
                f"{path}: is damaged or not a {' or '.join(formats)} image{_reason(error)}; {again}"
            ) from error
        if image.size != (side, side):
            raise RiftError(
                f"{path}: has {image.size[0]} × {image.size[1]} pixels instead of {side} × {side};"
                f" {again}"
            )
        return hashlib.sha256(content).digest()

    # Threads suffice because decoding releases the GIL; one for each core of this process.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        digests = pool.map(read, range(len(paths)))
        return images, hashlib.sha256(b"".join(digests)).hexdigest()


def _reason(error: Exception) -> str:
    """Return why an image cannot be read, in parentheses; nothing if it only names an object."""
    return "" if "BytesIO object" in str(error) else f" ({error})"
