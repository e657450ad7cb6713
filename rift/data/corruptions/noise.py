"""Noise corruptions; the noise is independent in every channel of every pixel."""

import numpy as np

from rift.artifacts import Array
from rift.data.corruptions.pixels import Images


def gaussian_noise(images: Images, std: float, rng: np.random.Generator) -> Array:
    """Return images with Gaussian noise added."""
    return images + std * rng.standard_normal(images.shape, dtype=np.float32)


def shot_noise(images: Images, photons: float, rng: np.random.Generator) -> Array:
    """Return images with Poisson noise; ``photons`` is the mean number of photons at value 1."""
    return rng.poisson(images * photons) / photons


def impulse_noise(images: Images, share: float, rng: np.random.Generator) -> Array:
    """Set a share of all values to 0 (pepper) or 1 (salt), in equal parts."""
    draw = rng.random(images.shape, dtype=np.float32)
    return np.where(draw < share, (draw < share / 2).astype(np.float32), images)


def speckle_noise(images: Images, std: float, rng: np.random.Generator) -> Array:
    """Return images with Gaussian noise added that is proportional to each value."""
    return images * (1 + std * rng.standard_normal(images.shape, dtype=np.float32))
