"""Corruptions of Hendrycks and Dietterich (2019) by name.

A corruption is a function (images, parameters, rng) → images. Images are float32 in [0, 1],
N×C×H×W; the caller clips the result.

To add a corruption, write its function in a file here and add a line to ``CORRUPTIONS``. Then add
its parameters to ``severities.json``, and its name to ``rift.config.names.CorruptionName``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from rift.artifacts import Array
from rift.config import CorruptionName
from rift.data.corruptions.blur import (
    defocus_blur,
    gaussian_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
)
from rift.data.corruptions.digital import (
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
    saturate,
)
from rift.data.corruptions.lens import spatter
from rift.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from rift.data.corruptions.pixels import Images
from rift.data.corruptions.weather import brightness, fog, frost, snow

Corruption = Callable[[Images, Any, np.random.Generator], Array]

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
