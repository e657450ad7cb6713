"""Blur corruptions."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rift.artifacts import Array
from rift.data.corruptions.pixels import Images, clipped_zoom, gaussian, to_uint8


def gaussian_blur(images: Images, sigma: float, _rng: np.random.Generator) -> Array:
    """Return images blurred by a Gaussian; ``sigma`` is in pixels."""
    return gaussian(images, sigma)


def defocus_blur(
    images: Images, parameters: tuple[float, float], _rng: np.random.Generator
) -> Array:
    """Convolve with a disk whose rim is softened by a 3×3 Gaussian; both sizes are in pixels."""
    from scipy.ndimage import convolve, gaussian_filter

    radius, alias_blur = parameters
    reach = int(radius) + 1
    side = np.arange(-reach, reach + 1)
    disk = (side**2 + side[:, None] ** 2 <= radius**2).astype(np.float32)
    kernel = gaussian_filter(disk / disk.sum(), alias_blur, radius=1, mode="constant")
    return np.asarray(convolve(images, kernel[None, None], mode="mirror"))


def glass_blur(
    images: Images, parameters: tuple[float, int, int], rng: np.random.Generator
) -> Array:
    """Copy the colour of a nearby pixel to every pixel, between two Gaussian blurs.

    The published code intends to swap two pixels, but its assignment through views leaves the
    second unchanged, so it copies one. It goes from the last pixel to the first, so that a colour
    may travel on. The outermost pixels are unchanged.
    """
    sigma, reach, rounds = parameters
    count, channels, height, width = images.shape
    places = np.arange(height * width)
    every = np.arange(count)
    source = np.repeat(places[:, None], count, axis=1)
    for _ in range(rounds):
        right, down = rng.integers(-reach, reach, (2, height * width, count))
        neighbour = places[:, None] + down * width + right
        for row in range(height - reach, reach, -1):
            for place in range(row * width + width - reach, row * width + reach, -1):
                source[place] = source[neighbour[place], every]
    blurred = to_uint8(gaussian(images, sigma)).reshape(count, channels, -1)
    shuffled = np.take_along_axis(blurred, source.T[:, None], axis=2).reshape(images.shape)
    return gaussian(shuffled / np.float32(255), sigma)


def motion_blur(images: Images, parameters: tuple[int, float], rng: np.random.Generator) -> Array:
    """Return images blurred along a line at a random angle within ±45° of the horizontal."""
    radius, sigma = parameters
    return along_a_line(images, radius, sigma, rng.uniform(-45, 45, len(images)))


def along_a_line(images: Array, radius: int, sigma: float, angles: Array) -> Array:
    """Blur each image in one direction along a line.

    The published code calls ImageMagick; this function computes the same.

    Args:
        images: float32 in [0, 1], N×C×H×W.
        radius: half the length of the line, which is 2·radius + 1 pixels long.
        sigma: standard deviation in pixels of the half Gaussian of weights, which is largest at the
            pixel itself.
        angles: angle per image in degrees from the horizontal, N.

    Returns:
        Images in [0, 1], N×C×H×W, rounded to 8-bit levels as in ImageMagick.
    """
    length = 2 * radius + 1
    steps = np.arange(length)
    weights = np.exp(-(steps**2) / (2 * sigma**2)).astype(np.float32)
    weights /= weights.sum()
    radians = np.deg2rad(angles)[:, None]
    down, right = (
        np.ceil(steps * part - 0.5).astype(int) for part in (np.sin(radians), np.cos(radians))
    )

    padded = np.pad(images, ((0, 0), (0, 0), (length, length), (length, length)), mode="edge")
    shifted = sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    every = np.arange(len(images))
    blurred = np.zeros_like(images)
    for step, weight in zip(steps, weights, strict=True):
        blurred += weight * shifted[every, :, length + down[:, step], length + right[:, step]]
    return np.asarray(np.round(blurred * 255) / 255)


def zoom_blur(images: Images, parameters: tuple[float, float], _rng: np.random.Generator) -> Array:
    """Average the image and its enlargements; the first enlargement is the image itself."""
    stop, step = parameters
    # As in the published code, rounding decides whether ``stop`` itself is among the factors.
    factors = np.arange(1, stop, step)
    total = images + sum(clipped_zoom(images, factor) for factor in factors)
    return np.asarray(total / (len(factors) + 1))
