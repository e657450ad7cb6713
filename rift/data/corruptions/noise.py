"""Noise: every channel of every pixel on its own."""

import numpy as np

from rift.artifacts import Array
from rift.data.corruptions.pixels import Images


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
