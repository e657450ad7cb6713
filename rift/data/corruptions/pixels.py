"""Operations on a batch of images (N×C×H×W, float32 in [0, 1]) that several corruptions share."""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from rift.artifacts import Array

Images = NDArray[np.float32]


def to_uint8(images: Array) -> NDArray[np.uint8]:
    """Return images clipped to [0, 1] and converted to 8 bits."""
    # The published sets truncate fractions of a level instead of rounding them.
    return (np.clip(images, 0, 1) * 255).astype(np.uint8)


def gaussian(images: Array, sigma: float) -> Array:
    """Return images after a Gaussian blur of the last two axes.

    Outside the image, the nearest border pixel is repeated.
    """
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(images, sigma, mode="nearest", axes=(-2, -1)))


def luminance(images: Array) -> Array:
    """Return the luminance of colour images (ITU-R 601), N×1×H×W; grey images are unchanged."""
    if images.shape[1] == 1:
        return images
    return np.tensordot(images, np.array([0.299, 0.587, 0.114], dtype=np.float32), (1, 0))[:, None]


def clipped_zoom(images: Array, factor: float) -> Array:
    """Return the middle of the images, linearly enlarged to the size of the whole images.

    Args:
        images: …×H×W.
        factor: scale, at least 1.
    """
    height, width = images.shape[-2:]
    return np.asarray(_zoom_matrix(height, factor) @ images @ _zoom_matrix(width, factor).T)


@functools.cache
def _zoom_matrix(size: int, factor: float) -> Array:
    """Return the matrix that maps a line of pixels to the enlarged line, size×size."""
    crop = math.ceil(size / factor)
    large = round(crop * factor)
    # As in scipy.ndimage.zoom, the first and the last pixel of the crop stay first and last. Then
    # both ends are cut off.
    spacing = (crop - 1) / max(large - 1, 1)
    position = (size - crop) // 2 + spacing * ((large - size) // 2 + np.arange(size))
    return np.asarray(
        np.clip(1 - np.abs(position[:, None] - np.arange(size)), 0, 1), dtype=np.float32
    )
