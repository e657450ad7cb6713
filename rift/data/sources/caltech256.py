"""Caltech-256 (Griffin, Holub and Perona 2007), from the official folder.

It has no published split. As in the authors' protocol, the images are cut class by class; the share
is ``data.test``. The folder 257.clutter is no class of objects and is omitted.
"""

from pathlib import Path

from rift.data.sources.folders import check_counts, images_by_class, missing, source_of
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
    listed = [each for each in images_by_class(folder) if not each[1].endswith(".clutter")]
    classes = {name for _, name in listed}
    check_counts(folder, {"classes": len(classes), "images": len(listed)}, COUNTS)
    return source_of(folder, listed, [], side)
