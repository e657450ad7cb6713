"""Spatter: drops of water or splashes of mud on the lens."""

import numpy as np

from rift.artifacts import Array
from rift.data.corruptions.pixels import Images, gaussian, luminance

_WATER = np.array([175, 238, 238], dtype=np.float32).reshape(1, 3, 1, 1) / 255
_MUD = np.array([63, 42, 20], dtype=np.float32).reshape(1, 3, 1, 1) / 255
_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
# Lengths of a diagonal step and of a knight's move: 1.4 and 2.1969 in OpenCV's 16-bit fixed point.
_DIAGONAL, _KNIGHT = 91750 / 65536, 143976 / 65536
# Neighbouring pixels are connected only within the same image.
_TO_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
_TO_NEIGHBOURS[[0, 2]] = False


def spatter(
    images: Images,
    parameters: tuple[float, float, float, float, float, int],
    rng: np.random.Generator,
) -> Array:
    """Cover the image with water or mud where blurred noise exceeds a threshold."""
    mean, std, sigma, threshold, weight, is_mud = parameters
    count, channels, height, width = images.shape
    liquid = gaussian(rng.normal(mean, std, (count, height, width)), sigma)
    wet = liquid >= threshold
    if is_mud:
        # As in the published code, the weight is the width of a blur, and a threshold keeps only
        # the middle of a splash.
        cover = gaussian((liquid > threshold).astype(np.float32), weight)
        cover[cover < 0.8] = 0
    else:
        cover = weight * _drops(np.where(wet, np.clip(liquid, 0, 1) * 255, 0).astype(np.uint8))
    colour = _MUD if is_mud else _WATER
    paint = luminance(colour) if channels == 1 else colour
    cover = cover[:, None].astype(np.float32)
    return np.asarray(images * (1 - cover) + paint * cover if is_mud else images + paint * cover)


def _drops(liquid: Array) -> Array:
    """Return the opacity of water, shaded by the distance from its edges.

    The light comes from the upper left.

    Args:
        liquid: amount of water, uint8, N×H×W.

    Returns:
        Opacity, N×H×W, with maximum 1 in each image that has any.
    """
    from scipy.ndimage import correlate, uniform_filter

    depth = np.minimum(_distance(_edges(liquid, low=50, high=150)), 20)
    depth = uniform_filter(depth, 3, mode="mirror", axes=(1, 2)).astype(np.uint8)
    relief = correlate(_equalize(depth).astype(int), _RELIEF[None], mode="mirror")
    shade = np.round(
        uniform_filter(np.clip(relief, 0, 255).astype(float), 3, mode="mirror", axes=(1, 2))
    )
    drops = liquid * shade
    largest = drops.max(axis=(1, 2), keepdims=True)
    return np.asarray(drops / np.where(largest > 0, largest, 1))


def _edges(images: Array, low: float, high: float) -> Array:
    """Return the edges that OpenCV's Canny detector finds, bool, N×H×W.

    It uses Sobel gradients and their L1 norm, without smoothing.

    Args:
        images: uint8, N×H×W.
        low: threshold that the gradient exceeds everywhere on an edge.
        high: threshold that the gradient exceeds somewhere on an edge.
    """
    from scipy.ndimage import correlate1d, label

    levels = images.astype(int)
    smooth, slope = (1, 2, 1), (-1, 0, 1)
    right = correlate1d(correlate1d(levels, smooth, 1, mode="nearest"), slope, 2, mode="nearest")
    down = correlate1d(correlate1d(levels, smooth, 2, mode="nearest"), slope, 1, mode="nearest")
    strength = np.abs(right) + np.abs(down)
    around = np.pad(strength, ((0, 0), (1, 1), (1, 1)))

    def neighbour(row: int, column: int) -> Array:
        return around[
            :, 1 + row : 1 + row + images.shape[1], 1 + column : 1 + column + images.shape[2]
        ]

    flat = np.abs(down) < np.tan(np.pi / 8) * np.abs(right)
    steep = np.abs(down) > np.tan(3 * np.pi / 8) * np.abs(right)
    rising = (right < 0) == (down < 0)
    ridge = np.select(
        [flat, steep, rising],
        [
            # If two neighbours are equal, the first is the edge.
            (strength > neighbour(0, -1)) & (strength >= neighbour(0, 1)),
            (strength > neighbour(-1, 0)) & (strength >= neighbour(1, 0)),
            (strength > neighbour(-1, -1)) & (strength > neighbour(1, 1)),
        ],
        (strength > neighbour(-1, 1)) & (strength > neighbour(1, -1)),
    )
    lines, count = label(ridge & (strength > low), _TO_NEIGHBOURS)
    strong = np.bincount(lines[ridge & (strength > high)], minlength=count + 1) > 0
    return np.asarray(strong[lines] & (lines > 0))


def _distance(edges: Array) -> Array:
    """Return the distance of each pixel to the nearest edge of its image, as OpenCV computes it.

    A path consists of straight steps, diagonal steps and knight's moves. Its length differs from
    the Euclidean distance by at most 2%, but the difference is visible after the later conversion
    to integers.

    Args:
        edges: bool, N×H×W.

    Returns:
        Distances in pixels, N×H×W; larger than any path in an image without edges.
    """
    from scipy.ndimage import distance_transform_edt

    # The spacing between images exceeds their size, so that the nearest edge is in the same image.
    apart = sum(edges.shape)
    if not edges.any():
        return np.full(edges.shape, float(apart))
    nearest = distance_transform_edt(
        ~edges, sampling=(apart, 1, 1), return_distances=False, return_indices=True
    )
    image, *offset = np.abs(nearest - np.indices(edges.shape))
    short, long = np.sort(offset, axis=0)
    steps = np.where(long < 2 * short, _DIAGONAL * (2 * short - long), long - 2 * short)
    return np.asarray(apart * image + steps + _KNIGHT * np.minimum(short, long - short))


def _equalize(images: Array) -> Array:
    """Return images (uint8, N×H×W) after histogram equalisation to 0 … 255, as in OpenCV."""
    counts = np.stack(
        [(images == level).sum(axis=(1, 2)) for level in range(images.max() + 1)], axis=1
    )
    up_to = counts.cumsum(axis=1)
    lowest = np.take_along_axis(counts, (counts > 0).argmax(axis=1)[:, None], axis=1)
    above = up_to[:, -1:] - lowest
    # An image with a single level is unchanged.
    spread = np.where(
        above > 0,
        np.round((up_to - lowest) * 255 / np.maximum(above, 1)),
        np.arange(counts.shape[1]),
    )
    return np.take_along_axis(spread, images.reshape(len(images), -1).astype(int), axis=1).reshape(
        images.shape
    )
