"""Weather: something stands between the camera and what it looks at."""

import functools

import numpy as np

from rift.artifacts import Array
from rift.data.corruptions.blur import along_a_line
from rift.data.corruptions.pixels import Images, clipped_zoom, luminance, to_uint8

# The four kinds of texture that the published code crops its frost from, as measured when reduced to CIFAR's size: mean
# colour, and grey levels at 1, 10, 50, 90 and 99 percent. Then the exponent of frequency in the power spectrum, chosen so that
# pieces of 32 px vary in themselves, among each other and from pixel to pixel as those do. The second kind is there twice.
_TEAL = ((0.31, 0.58, 0.65), (0.38, 0.43, 0.50, 0.61, 0.70), -1.7)
_WHITE = ((0.78, 0.79, 0.83), (0.56, 0.69, 0.81, 0.89, 0.93), -1.2)
_GREY = ((0.56, 0.62, 0.67), (0.31, 0.48, 0.62, 0.74, 0.92), -0.9)
_DARK = ((0.40, 0.45, 0.49), (0.18, 0.27, 0.43, 0.65, 0.85), -1.6)
_FROSTS = (_TEAL, _WHITE, _WHITE, _GREY, _DARK)


def snow(
    images: Images,
    parameters: tuple[float, float, float, float, int, float, float],
    rng: np.random.Generator,
) -> Array:
    """Flakes of thresholded noise, smeared as they fall, over a picture that turns pale."""
    mean, std, zoom, threshold, radius, sigma, weight = parameters
    count, _, height, width = images.shape
    noise = clipped_zoom(rng.normal(mean, std, (count, 1, height, width)).astype(np.float32), zoom)
    flakes = to_uint8(np.where(noise < threshold, 0, noise)) / np.float32(255)
    flakes = along_a_line(flakes, radius, sigma, rng.uniform(-135, -45, (count,)))
    pale = np.maximum(images, luminance(images) * 1.5 + 0.5)
    return np.asarray(
        weight * images + (1 - weight) * pale + flakes + np.rot90(flakes, 2, axes=(2, 3))
    )


def frost(images: Images, parameters: tuple[float, float], rng: np.random.Generator) -> Array:
    """Add a random piece of a frozen window.

    The published code crops photographs of frost. They are not ours to ship, so these windows are made of noise that has the
    photographs' colours, grey levels and spectrum, but not their crystals; at 32 px these are too small to be seen as such.
    """
    image_weight, frost_weight = parameters
    count, channels, height, width = images.shape
    side = 4 * max(height, width)
    windows = _frozen_windows(side)
    kind, top, left = (
        rng.integers(0, choices, size=(count,))
        for choices in (len(windows), side - height, side - width)
    )
    rows, columns = top[:, None] + np.arange(height), left[:, None] + np.arange(width)
    ice = np.moveaxis(windows[kind[:, None, None], rows[:, :, None], columns[:, None, :]], -1, 1)
    return np.asarray(
        image_weight * images + frost_weight * (luminance(ice) if channels == 1 else ice)
    )


@functools.cache
def _frozen_windows(side: int) -> Array:
    """Make the windows, K×side×side×3 in [0, 1]: always the same, as the published photographs are."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf  # no weight on the mean
    windows = []
    for colour, levels, exponent in _FROSTS:
        noise = np.fft.irfft2(
            np.fft.rfft2(rng.standard_normal((side, side))) * frequency ** (exponent / 2),
            (side, side),
        )
        grey = np.interp(noise / noise.std(), (-2.326, -1.282, 0, 1.282, 2.326), levels)
        windows.append(grey[..., None] + np.array(colour) - np.mean(colour))
    return np.asarray(np.clip(windows, 0, 1), dtype=np.float32)


def fog(images: Images, parameters: tuple[float, float], rng: np.random.Generator) -> Array:
    """Add a cloud, then darken so that no image grows brighter than it was."""
    amount, decay = parameters
    count, _, height, width = images.shape
    side = 1 << (max(height, width) - 1).bit_length()
    cloud = _plasma(count, side, decay, rng)[:, None, :height, :width]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((images + amount * cloud) * brightest / (brightest + amount))


def _plasma(count: int, side: int, decay: float, rng: np.random.Generator) -> Array:
    """Draw fractal height maps by the diamond-square algorithm on a torus.

    Args:
        count: how many maps.
        side: of a map, a power of two.
        decay: the noise is divided by its square each time the grid is refined.
        rng: of the noise.

    Returns:
        count×side×side, each map from 0 to 1.
    """
    heights = np.zeros((count, side, side))
    step, wobble = side, 100.0

    def with_noise(total: Array) -> Array:
        # As published the noise is scaled twice.
        return np.asarray(total / 4 + wobble * rng.uniform(-wobble, wobble, total.shape))

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, half::step] = with_noise(rows + np.roll(rows, -1, axis=2))
        centres = heights[:, half::step, half::step]
        across = centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=2)
        heights[:, ::step, half::step] = with_noise(across)
        along = centres + np.roll(centres, 1, axis=2) + corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, ::step] = with_noise(along)
        step = half
        wobble /= decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    return np.asarray(heights / heights.max(axis=(1, 2), keepdims=True))


def brightness(images: Images, amount: float, _rng: np.random.Generator) -> Array:
    """Add to V of HSV: colours keep hue and saturation, so every channel grows in proportion; black turns grey."""
    value = images.max(axis=1, keepdims=True)
    brighter = np.clip(value + amount, 0, 1)
    return np.asarray(
        np.where(value > 0, images * (brighter / np.where(value > 0, value, 1)), brighter)
    )
