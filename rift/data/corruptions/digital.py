"""Digital corruptions: contrast, elastic transform, pixelation, JPEG compression, saturation."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rift.artifacts import Array
from rift.data.corruptions.pixels import Images, to_uint8

if TYPE_CHECKING:
    from PIL import Image


def contrast(images: Images, scale: float, _rng: np.random.Generator) -> Array:
    """Return images with the deviation of each channel from its mean multiplied by ``scale``."""
    mean = images.mean(axis=(2, 3), keepdims=True)
    return np.asarray((images - mean) * scale + mean)


def elastic_transform(
    images: Images, parameters: tuple[float, float, float], rng: np.random.Generator
) -> Array:
    """Apply a random affine map, then move each pixel by smooth noise.

    The affine map moves three points of the image at random. All parameters are shares of the
    larger side of the image.
    """
    from scipy.ndimage import gaussian_filter

    alpha, sigma, shift = (share * max(images.shape[2:]) for share in parameters)
    count, _, height, width = images.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)

    arm = min(height, width) // 3
    points = np.array([width // 2, height // 2]) + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + rng.uniform(-shift, shift, (count, 3, 2))
    # Inverse affine map, from (x, y, 1) of the result to (x, y) of the image.
    back = np.linalg.inv(np.concatenate([moved, np.ones((count, 3, 1))], axis=2)) @ points
    x, y = np.einsum(
        "kij,nkc->cnij", np.stack([columns, rows, np.ones_like(rows)]), back.astype(np.float32)
    )
    images = _at(images, y, x, _mirror)

    by_x, by_y = (
        rng.uniform(-1, 1, (count, height, width)),
        rng.uniform(-1, 1, (count, height, width)),
    )
    dx, dy = (
        alpha
        * gaussian_filter(noise, sigma, mode="reflect", truncate=3, axes=(1, 2)).astype(np.float32)
        for noise in (by_x, by_y)
    )
    return _at(images, rows + dy, columns + dx, _reflect)


def _at(images: Array, y: Array, x: Array, fold: Callable[[Array, int], Array]) -> Array:
    """Return images sampled at real coordinates by bilinear interpolation, N×C×H×W.

    Args:
        images: N×C×H×W.
        y: row coordinates, N×H×W.
        x: column coordinates, N×H×W.
        fold: function of (indices, size) that maps indices outside the image to indices inside.
    """
    count, channels, height, width = images.shape
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top)[:, None], (x - left)[:, None]
    flat = images.reshape(count, channels, -1)

    def pixels(row: Array, column: Array) -> Array:
        index = fold(row, height) * width + fold(column, width)
        return np.asarray(
            np.take_along_axis(flat, index.reshape(count, 1, -1), axis=2).reshape(images.shape)
        )

    upper = pixels(top, left) * (1 - right) + pixels(top, left + 1) * right
    lower = pixels(top + 1, left) * (1 - right) + pixels(top + 1, left + 1) * right
    return np.asarray(upper * (1 - down) + lower * down)


def _mirror(index: Array, size: int) -> Array:
    """Return indices in 0 … size - 1, mirrored at the centre of the border: c b | a b c | b a."""
    period = max(2 * size - 2, 1)
    index = index % period
    return np.asarray(np.minimum(index, period - index))


def _reflect(index: Array, size: int) -> Array:
    """Return indices in 0 … size - 1, reflected at the edge of the border: b a | a b c | c b."""
    index = index % (2 * size)
    return np.asarray(np.minimum(index, 2 * size - 1 - index))


def pixelate(images: Images, scale: float, _rng: np.random.Generator) -> Array:
    """Return images reduced by the factor ``scale`` and enlarged again, both with a box filter."""
    from PIL import Image

    height, width = images.shape[2:]

    def coarse(image: Image.Image) -> Image.Image:
        small = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
        return small.resize((width, height), Image.Resampling.BOX)

    return _each(images, coarse)


def jpeg_compression(images: Images, quality: int, _rng: np.random.Generator) -> Array:
    """Return images after JPEG compression."""
    from PIL import Image

    def through_jpeg(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _each(images, through_jpeg)


def _each(images: Images, change: "Callable[[Image.Image], Image.Image]") -> Array:
    """Return the images after a function of Pillow images that is applied to each of them."""
    from PIL import Image

    # Pillow expects H×W for grey images and H×W×3 for colour images.
    grey = images.shape[1] == 1
    pixels = to_uint8(images[:, 0] if grey else np.moveaxis(images, 1, -1))
    changed = np.stack(
        [np.asarray(change(Image.fromarray(image))) for image in pixels]
    ) / np.float32(255)
    return changed[:, None] if grey else np.moveaxis(changed, -1, 1)


def saturate(images: Images, parameters: tuple[float, float], _rng: np.random.Generator) -> Array:
    """Scale and shift the saturation in HSV.

    Images with one channel are unchanged. A grey pixel of a colour image turns red.
    """
    if images.shape[1] == 1:
        return images
    scale, shift = parameters
    value = images.max(axis=1, keepdims=True)
    spread = value - images.min(axis=1, keepdims=True)
    saturation = np.clip(spread / np.where(value > 0, value, 1) * scale + shift, 0, 1)
    # The shortfall of each channel below the value V, as a share of the largest shortfall, encodes
    # the hue. By convention, the hue of grey is red.
    red = np.array([0, 1, 1], dtype=np.float32).reshape(1, 3, 1, 1)
    shortfall = np.where(spread > 0, (value - images) / np.where(spread > 0, spread, 1), red)
    return np.asarray(value * (1 - saturation * shortfall))
