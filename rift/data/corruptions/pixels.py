"""What several corruptions do to images, a batch at a time (N×C×H×W, float32 in [0, 1])."""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from rift.artifacts import Array

Images = NDArray[np.float32]


def to_uint8(images: Array) -> NDArray[np.uint8]:
    """Clip to [0, 1] and cut to 8 bits as the published sets do: fractions of a level are dropped."""
    return (np.clip(images, 0, 1) * 255).astype(np.uint8)


def gaussian(images: Array, sigma: float) -> Array:
    """Blur the last two axes; what lies outside is taken to be the nearest pixel."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(images, sigma, mode="nearest", axes=(-2, -1)))


def luminance(images: Array) -> Array:
    """Return the grey value of colours (ITU-R 601), N×1×H×W; grey images are theirs."""
    if images.shape[1] == 1:
        return images
    return np.tensordot(images, np.array([0.299, 0.587, 0.114], dtype=np.float32), (1, 0))[:, None]


def clipped_zoom(images: Array, factor: float) -> Array:
    """Enlarge the middle of the images linearly, to what the whole measured before."""
    height, width = images.shape[-2:]
    return np.asarray(_zoom_matrix(height, factor) @ images @ _zoom_matrix(width, factor).T)


@functools.cache
def _zoom_matrix(size: int, factor: float) -> Array:
    """Weights of the pixels of a line in those of the enlarged line, size×size."""
    crop = math.ceil(size / factor)
    large = round(crop * factor)
    # The first and the last pixel of the crop stay first and last, as in scipy.ndimage.zoom; then both ends are cut.
    spacing = (crop - 1) / max(large - 1, 1)
    position = (size - crop) // 2 + spacing * ((large - size) // 2 + np.arange(size))
    return np.asarray(
        np.clip(1 - np.abs(position[:, None] - np.arange(size)), 0, 1), dtype=np.float32
    )
