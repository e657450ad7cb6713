"""Caltech-256 (Griffin, Holub and Perona 2007), from the official folder.

It has no published split: ``data.test`` is the share of each class that is cut off. The folder
257.clutter is no class of objects and is omitted.
"""

from pathlib import Path

from rift.data.sources.folders import images_by_class, missing, published_source
from rift.data.sources.source import Source

FOLDER = "256_ObjectCategories"
URL = "https://data.caltech.edu/records/nyy15-4j048"
COUNTS = {"classes": 256, "images": 29_780}


def caltech256(root: Path, side: int) -> Source:
    """Read all images outside 257.clutter.

    Raises:
        RiftError: the data set is missing, or not the published one.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        raise missing(folder, URL, folder)
    objects = [each for each in images_by_class(folder) if not each[1].endswith(".clutter")]
    return published_source(folder, objects, [], side, COUNTS)
