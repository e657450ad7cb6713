"""Ranges of the classes of a data set, such as ``digits-0-4``."""

from dataclasses import replace

import numpy as np

from rift.artifacts import Array
from rift.config import class_range
from rift.data.memory import chosen_images
from rift.data.sources.source import Source
from rift.errors import RiftError


def only_named_classes(source: Source, name: str) -> Source:
    """Return the images of the classes that a name asks for; labels count from 0 again.

    Args:
        source: whole data set.
        name: name of the data set, or of a range of its classes.

    Raises:
        RiftError: the data set does not contain the range, or the range has fewer than two classes.
    """
    limits = class_range(name)
    if limits is None:
        return source
    first, last = limits
    if not first < last < len(source.classes):
        raise RiftError(
            f"data set {name}: must name at least two of the classes 0 to"
            f" {len(source.classes) - 1}, the first and the last, such as"
            f" {name.rsplit('-', 2)[0]}-0-1"
        )
    inside = in_range(source.labels, limits)
    part = replace(
        source,
        images=chosen_images(source.images, inside),
        labels=source.labels[inside] - first,
        classes=source.classes[first : last + 1],
    )
    if source.test_images is None or source.test_labels is None:
        return part
    inside = in_range(source.test_labels, limits)
    return replace(
        part,
        test_images=chosen_images(source.test_images, inside),
        test_labels=source.test_labels[inside] - first,
    )


def in_range(labels: Array, limits: tuple[int, int]) -> Array:
    """Return whether each label (int64, N) is in a range: bool, N."""
    return np.asarray((labels >= limits[0]) & (labels <= limits[1]))
