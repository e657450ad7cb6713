"""The corrupted test split of a data set: published or generated, and its files in the layout of the published ones.

For each corruption ``NAME.npy`` (uint8, 5N×H×W×C, severity 1 first) with ``NAME.json`` (where it comes from), and for all of
them ``labels.npy`` (int64, 5N): what is written here is read by whatever reads CIFAR-10-C.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rift.artifacts import Array, Provenance, read_array, read_json, write_array, write_json
from rift.config import Corrupt, CorruptionName
from rift.data import DATASETS, Prepared
from rift.data.corruptions import corrupt
from rift.data.download import obtain
from rift.data.published import split_severities
from rift.errors import RiftError
from rift.progress import Progress, silent


@dataclass(frozen=True)
class CorruptedSplit:
    """Test images after one corruption.

    Attributes:
        corruption: which.
        images: uint8, 5×N×H×W×C, severity 1 first.
        labels: int64, N.
        source: whether the images were published or generated here.
    """

    corruption: str
    images: Array
    labels: Array
    source: Literal["published", "generated"]


def corrupted_test_split(
    prepared: Prepared, corruption: CorruptionName, settings: Corrupt, root: Path, progress: Progress = silent
) -> CorruptedSplit:
    """Read the published corrupted images, or corrupt the test split.

    Args:
        prepared: with its test split.
        corruption: a key of ``rift.data.corruptions.CORRUPTIONS``.
        settings: ``source`` says which of the two: ``auto`` takes the published set where it lies under the data root,
            ``published`` downloads it if need be.
        root: the data root.
        progress: of the download.

    Raises:
        RiftError: there is no published set, or it cannot be had, or is not one of this test split.
    """
    name = prepared.facts["dataset"]
    published = DATASETS[name].corrupted
    if published is None and settings.source == "published":
        raise RiftError(f"corrupt.source: no corrupted {name} has been published; say generated or auto")
    count = None if settings.images == "all" else settings.images
    if published is not None and (
        settings.source == "published" or (settings.source == "auto" and published.lies_in(root))
    ):
        for archive in published.archives if settings.source == "published" else ():
            obtain(root, archive, progress)
        images, labels = published.read(root, corruption, prepared.classes)
        wanted = np.moveaxis(prepared.images["test"][:1], 1, -1).shape[1:]
        if images.shape[2:] != wanted or not np.array_equal(np.sort(labels), np.sort(prepared.labels["test"])):
            raise RiftError(
                f"{root / published.archives[0].folder}: is not the corrupted copy of this test split: it holds"
                f" {len(labels)} images of {images.shape[2:]} values, wanted are {len(prepared.labels['test'])} of {wanted},"
                " as many of each class; corrupt.source: generated makes one"
            )
        return CorruptedSplit(corruption, images[:, :count], labels[:count], "published")
    images = np.moveaxis(corrupt(prepared.images["test"][:count], corruption, settings.seed), 2, -1)
    return CorruptedSplit(corruption, images, prepared.labels["test"][:count], "generated")


def save(path: Path, split: CorruptedSplit, source: Provenance) -> None:
    """Write ``NAME.npy``, and beside it ``NAME.json`` and ``labels.npy``; the labels are the same for every corruption."""
    severities, count = split.images.shape[:2]
    write_array(path.with_name("labels.npy"), np.tile(split.labels, severities))
    facts = {"corruption": split.corruption, "source": split.source, "images": count}
    write_json(path.with_suffix(".json"), facts, source)
    write_array(path, split.images.reshape(severities * count, *split.images.shape[2:]))


def load(path: Path) -> CorruptedSplit:
    """Read what ``save`` wrote; the images stay on disk until they are looked at.

    Raises:
        RiftError: files are missing, damaged, or do not belong together.
    """
    facts = read_json(path.with_suffix(".json"))
    images, labels = split_severities(path, read_array(path), read_array(path.with_name("labels.npy")))
    return CorruptedSplit(facts["corruption"], images, labels, facts["source"])
