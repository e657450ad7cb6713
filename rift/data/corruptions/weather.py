"""Weather corruptions: snow, frost, fog and brightness."""

import functools

import numpy as np

from rift.artifacts import Array
from rift.data.corruptions.blur import along_a_line
from rift.data.corruptions.pixels import Images, clipped_zoom, luminance, to_uint8

# Statistics of the frost photographs of the published code, at its scale for CIFAR. Each kind has
# its mean colour, and its grey levels at the percentiles 1, 10, 50, 90 and 99. The third entry is
# the exponent of frequency in the power spectrum. It is chosen so that crops of 32 px vary as those
# of the photographs do: from pixel to pixel, over a crop, and between crops. The second kind counts
# twice.
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
    """Make the image paler, and add flakes: thresholded noise with motion blur."""
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
    """Add a random crop of a synthetic frozen window.

    The published code crops photographs of frost, which rift may not distribute. The windows here
    are noise with the colours, grey levels and spectrum of the photographs. They have no crystals,
    which are too small to be recognised at 32 px.
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
    """Return the windows, float32 in [0, 1], K×side×side×3."""
    # The seed is fixed because the published photographs are fixed too.
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    # The mean gets no weight.
    frequency[0, 0] = np.inf
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
    """Add a cloud, then darken the image so that its brightest value does not rise."""
    amount, decay = parameters
    count, _, height, width = images.shape
    side = 1 << (max(height, width) - 1).bit_length()
    cloud = _plasma(count, side, decay, rng)[:, None, :height, :width]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((images + amount * cloud) * brightest / (brightest + amount))


def _plasma(count: int, side: int, decay: float, rng: np.random.Generator) -> Array:
    """Return fractal height maps, drawn by the diamond-square algorithm on a torus.

    Args:
        count: number of maps.
        side: side of a map in pixels, a power of two.
        decay: number whose square divides the noise each time the grid is refined.
        rng: source of the noise.

    Returns:
        Maps, count×side×side, each with minimum 0 and maximum 1.
    """
    heights = np.zeros((count, side, side))
    step, wobble = side, 100.0

    def with_noise(total: Array) -> Array:
        # The published code scales the noise twice.
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
    """Add an amount to the value in HSV; hue and saturation stay, and black turns grey."""
    # With constant hue and saturation, all channels grow in proportion.
    value = images.max(axis=1, keepdims=True)
    brighter = np.clip(value + amount, 0, 1)
    return np.asarray(
        np.where(value > 0, images * (brighter / np.where(value > 0, value, 1)), brighter)
    )
