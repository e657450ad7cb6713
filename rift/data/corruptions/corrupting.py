"""Corruption of images, a chunk at a time."""

import json
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rift.config import CorruptionName
from rift.data.corruptions import CORRUPTIONS
from rift.data.corruptions.pixels import to_uint8

# Images that are corrupted at once, with random numbers of their own. Another size would give other images.
CHUNK = 100


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
            pixels = np.resize(part, (CHUNK, *images.shape[1:])).astype(np.float32) / np.float32(
                255
            )
            # The name is part of the seed, so that two noises do not draw the same numbers.
            rng = np.random.default_rng([seed, *name.encode(), level, number])
            corrupted[level, start : start + CHUNK] = to_uint8(
                CORRUPTIONS[name](pixels, parameters, rng)
            )[: len(part)]
    return corrupted
