"""Data sets that a transfer can start from without their images: only weights are imported."""

from dataclasses import dataclass

from rift.config.names import SourceName
from rift.config.normalization import NORMALIZATIONS, Channels


@dataclass(frozen=True)
class SourceFacts:
    """What a network of such a data set expects and returns.

    Attributes:
        classes: number of classes.
        size: side of its images in pixels.
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation, likewise.
    """

    classes: int
    size: int
    mean: Channels
    std: Channels


SOURCES: dict[SourceName, SourceFacts] = {
    "imagenet": SourceFacts(1000, 224, *NORMALIZATIONS["imagenet"]),
}
