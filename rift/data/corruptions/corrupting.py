"""Corruption of images at all severities."""

import json
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rift.config import CorruptionName
from rift.data.corruptions import CORRUPTIONS
from rift.data.corruptions.pixels import to_uint8

CHUNK = 100
"""Number of images per random stream; another number would give other corrupted images."""


def severities(side: int) -> dict[str, list[Any]]:
    """Return the published parameters of every corruption, a list for severities 1 to 5.

    The entry ``meaning`` of ``severities.json`` explains the parameters.

    Args:
        side: side of the images in pixels. The parameters are those of CIFAR-10-C up to 32 pixels,
            and those of Tiny-ImageNet-C above.
    """
    tables = json.loads((files("rift.data.corruptions") / "severities.json").read_text("utf-8"))
    table: dict[str, list[Any]] = tables["cifar" if side <= 32 else "tiny-imagenet"]
    return table


def corrupt(images: NDArray[np.uint8], name: CorruptionName, seed: int) -> NDArray[np.uint8]:
    """Corrupt images at all five severities.

    The result of an image does not depend on later images, so the first images of a set give the
    first images of its result.

    Args:
        images: uint8, N×C×H×W.
        name: key of ``CORRUPTIONS``.
        seed: seed of all random numbers.

    Returns:
        Corrupted images, uint8, 5×N×C×H×W, severity 1 first.
    """
    corrupted = np.empty((5, *images.shape), dtype=np.uint8)
    for level, parameters in enumerate(severities(max(images.shape[2:]))[name]):
        for number, start in enumerate(range(0, len(images), CHUNK)):
            part = images[start : start + CHUNK]
            # The last chunk is filled up, so that its random numbers do not depend on its size.
            filled = np.resize(part, (CHUNK, *images.shape[1:]))
            pixels = filled.astype(np.float32) / np.float32(255)
            # The name is part of the seed, so that two corruptions draw different numbers.
            rng = np.random.default_rng([seed, *name.encode(), level, number])
            corrupted[level, start : start + CHUNK] = to_uint8(
                CORRUPTIONS[name](pixels, parameters, rng)
            )[: len(part)]
    return corrupted
