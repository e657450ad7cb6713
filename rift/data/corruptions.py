"""Corruptions of Hendrycks and Dietterich (2019), a batch at a time.

A corruption is one function of (images, parameters, rng): images are float32 in [0, 1], N×C×H×W, and so is what it
returns before clipping. Severities 1 … 5 are the published parameters of CIFAR-10-C, in ``severities.json``. Add yours to
``CORRUPTIONS`` and ``severities.json`` and its name to ``rift.config.CorruptionName``.
"""

import io
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rift.artifacts import Array
from rift.config import CorruptionName

Images = NDArray[np.float32]
Corruption = Callable[[Images, Any, np.random.Generator], Array]


def gaussian_noise(images: Images, std: float, rng: np.random.Generator) -> Array:
    return images + std * rng.standard_normal(images.shape, dtype=np.float32)


def shot_noise(images: Images, photons: float, rng: np.random.Generator) -> Array:
    return rng.poisson(images * photons) / photons


def impulse_noise(images: Images, share: float, rng: np.random.Generator) -> Array:
    """Salt and pepper, in equal parts, each channel of each pixel on its own."""
    draw = rng.random(images.shape, dtype=np.float32)
    return np.where(draw < share, (draw < share / 2).astype(np.float32), images)


def speckle_noise(images: Images, std: float, rng: np.random.Generator) -> Array:
    return images * (1 + std * rng.standard_normal(images.shape, dtype=np.float32))


def gaussian_blur(images: Images, sigma: float, _rng: np.random.Generator) -> Array:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(images, sigma, mode="nearest", axes=(2, 3)))


def defocus_blur(images: Images, parameters: tuple[float, float], _rng: np.random.Generator) -> Array:
    """Convolution with a disk of some radius, its rim softened by a 3×3 Gaussian."""
    from scipy.ndimage import convolve, gaussian_filter

    radius, alias_blur = parameters
    side = np.arange(-8, 9)
    disk = (side**2 + side[:, None] ** 2 <= radius**2).astype(np.float32)
    kernel = gaussian_filter(disk / disk.sum(), alias_blur, radius=1, mode="mirror")
    return np.asarray(convolve(images, kernel[None, None], mode="mirror"))


def contrast(images: Images, scale: float, _rng: np.random.Generator) -> Array:
    mean = images.mean(axis=(2, 3), keepdims=True)
    return np.asarray((images - mean) * scale + mean)


def brightness(images: Images, amount: float, _rng: np.random.Generator) -> Array:
    """Add to V of HSV: colours keep hue and saturation, so every channel grows in proportion; black turns grey."""
    value = images.max(axis=1, keepdims=True)
    brighter = np.clip(value + amount, 0, 1)
    return np.asarray(np.where(value > 0, images * (brighter / np.where(value > 0, value, 1)), brighter))


def jpeg_compression(images: Images, quality: int, _rng: np.random.Generator) -> Array:
    from PIL import Image

    def through_jpeg(image: Array) -> Array:
        buffer = io.BytesIO()
        # PIL wants H×W for grey and H×W×3 for colour.
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer)).reshape(image.shape)

    pixels = np.moveaxis(to_uint8(images), 1, -1)
    return np.moveaxis(np.stack([through_jpeg(image) for image in pixels]), -1, 1) / np.float32(255)


CORRUPTIONS: dict[CorruptionName, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "defocus_blur": defocus_blur,
    "contrast": contrast,
    "brightness": brightness,
    "jpeg_compression": jpeg_compression,
}


def severities() -> dict[str, list[Any]]:
    """Return the published parameters of every corruption, severity 1 to 5 (meanings in the file's ``meaning``)."""
    table: dict[str, list[Any]] = json.loads((files("rift.data") / "severities.json").read_text())["cifar"]
    return table


def to_uint8(images: Array) -> NDArray[np.uint8]:
    """Clip to [0, 1] and cut to 8 bits as the published sets do: fractions of a level are dropped."""
    return (np.clip(images, 0, 1) * 255).astype(np.uint8)


def corrupt(images: NDArray[np.uint8], name: CorruptionName, seed: int) -> NDArray[np.uint8]:
    """Corrupt images at all five severities.

    Args:
        images: uint8, N×C×H×W.
        name: a key of ``CORRUPTIONS``.
        seed: of the noise; severities draw from one stream, in order.

    Returns:
        uint8, 5×N×C×H×W, severity 1 first.
    """
    # The name is part of the seed, so that two noises do not draw the same numbers.
    rng = np.random.default_rng([seed, *name.encode()])
    pixels = images.astype(np.float32) / np.float32(255)
    return np.stack([to_uint8(CORRUPTIONS[name](pixels, parameters, rng)) for parameters in severities()[name]])
