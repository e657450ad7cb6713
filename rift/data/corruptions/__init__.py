"""Corruptions of Hendrycks and Dietterich (2019), a batch at a time.

A corruption is one function of (images, parameters, rng): images are float32 in [0, 1], N×C×H×W, and so is what it
returns before clipping. What it does is what the published generators of CIFAR-10-C and Tiny-ImageNet-C do, quirks included;
severities 1 … 5 are their parameters, in ``severities.json``. Add yours to ``CORRUPTIONS`` and ``severities.json`` and its
name to ``rift.config.CorruptionName``.
"""

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rift.artifacts import Array
from rift.config import CorruptionName
from rift.data.corruptions.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from rift.data.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate, saturate
from rift.data.corruptions.images import Images, to_uint8
from rift.data.corruptions.lens import spatter
from rift.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from rift.data.corruptions.weather import brightness, fog, frost, snow

__all__ = ["CHUNK", "CORRUPTIONS", "corrupt", "severities", "to_uint8"]

Corruption = Callable[[Images, Any, np.random.Generator], Array]

# Images that are corrupted at once, with random numbers of their own. Another size would give other images.
CHUNK = 100

CORRUPTIONS: dict[CorruptionName, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "spatter": spatter,
    "saturate": saturate,
}


def severities(side: int) -> dict[str, list[Any]]:
    """Return the published parameters of every corruption, severity 1 to 5 (meanings in the file's ``meaning``).

    Args:
        side: of the images, in pixels: up to 32 the parameters are those of CIFAR-10-C, above those of Tiny-ImageNet-C.
    """
    tables = json.loads((files("rift.data.corruptions") / "severities.json").read_text())
    table: dict[str, list[Any]] = tables["cifar" if side <= 32 else "tiny-imagenet"]
    return table


def corrupt(images: NDArray[np.uint8], name: CorruptionName, seed: int) -> NDArray[np.uint8]:
    """Corrupt images at all five severities.

    An image's result depends on those before it, not on those after: the first so many images give the first of the result.

    Args:
        images: uint8, N×C×H×W.
        name: a key of ``CORRUPTIONS``.
        seed: of all that is random.

    Returns:
        uint8, 5×N×C×H×W, severity 1 first.
    """
    corrupted = np.empty((5, *images.shape), dtype=np.uint8)
    for level, parameters in enumerate(severities(max(images.shape[2:]))[name]):
        for number, start in enumerate(range(0, len(images), CHUNK)):
            part = images[start : start + CHUNK]
            # A last chunk is filled up, so that its images meet the random numbers that they would meet among more.
            pixels = np.resize(part, (CHUNK, *images.shape[1:])).astype(np.float32) / np.float32(255)
            # The name is part of the seed, so that two noises do not draw the same numbers.
            rng = np.random.default_rng([seed, *name.encode(), level, number])
            corrupted[level, start : start + CHUNK] = to_uint8(CORRUPTIONS[name](pixels, parameters, rng))[: len(part)]
    return corrupted
