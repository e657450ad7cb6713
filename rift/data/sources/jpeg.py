"""Decoding of many small JPEG files on all cores."""

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rift.artifacts import Array
from rift.errors import RiftError


def decode(paths: Sequence[Path], side: int) -> tuple[Array, str]:
    """Read square JPEG files as RGB images.

    Args:
        paths: paths of the N files, in the order of the result.
        side: side of every image in pixels.

    Returns:
        Images, uint8, N×3×side×side, and one sha256 over all files in order.

    Raises:
        RiftError: a file cannot be read, is damaged, or has another size.
    """
    from PIL import Image

    images = np.empty((len(paths), 3, side, side), dtype=np.uint8)

    def read(index: int) -> bytes:
        path = paths[index]
        try:
            content = path.read_bytes()
            # Pillow opens many formats, and some start other programs.
            image = Image.open(io.BytesIO(content), formats=["JPEG"])
            # The size is checked before decoding: a small file may describe a huge image.
            if image.size == (side, side):
                images[index] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except FileNotFoundError as error:
            raise RiftError(f"{path}: is missing; unpack the data set again") from error
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise RiftError(
                f"{path}: is damaged or not a JPEG image ({error}); unpack the data set again"
            ) from error
        if image.size != (side, side):
            raise RiftError(
                f"{path}: has {image.size[0]} × {image.size[1]} pixels instead of {side} × {side};"
                " unpack the data set again"
            )
        return hashlib.sha256(content).digest()

    # Threads suffice because decoding releases the GIL; one for each core of this process.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        digests = pool.map(read, range(len(paths)))
        return images, hashlib.sha256(b"".join(digests)).hexdigest()
