"""The corrupted test split of a data set: published or generated, and its files in the layout of the published ones.

For each corruption ``NAME.npy`` (uint8, 5N×H×W×C, severity 1 first) with ``NAME.json`` (where it comes from). ``labels.npy``
beside them (int64, 5N) is for other programs: here the labels are those of the test split. Programs that read CIFAR-10-C take
it for granted that N is 10,000.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from rift.artifacts import Array, Provenance, read_array, read_json, write_array, write_json
from rift.config import Corrupt, CorruptionName, Ood
from rift.data.corruptions.corrupting import CHUNK, corrupt
from rift.data.corruptions.digital import jpeg_compression
from rift.data.corruptions.pixels import to_uint8
from rift.data.corruptions.published import SEVERITIES
from rift.data.prepared import Prepared
from rift.data.sources import DATASETS
from rift.data.sources.download import obtain
from rift.data.sources.source import Corrupted
from rift.errors import RiftError
from rift.progress import Progress, no_progress

if TYPE_CHECKING:
    import torch

    from rift.data.images import Images


@dataclass(frozen=True)
class CorruptedSplit:
    """Test images after one corruption.

    Attributes:
        corruption: which.
        images: uint8, 5×N×H×W×C, severity 1 first; the labels are those of the first N test images.
        source: whether the images were published or generated here.
    """

    corruption: str
    images: Array
    source: Literal["published", "generated"]


@dataclass(frozen=True)
class CorruptedImages:
    """Test images after one corruption.

    Attributes:
        corruption: its name.
        source: whether the images were published or generated here.
        severities: images at each severity that is evaluated, by severity.
    """

    corruption: str
    source: Literal["published", "generated"]
    severities: "dict[int, Images]"


def corrupted_test_split(
    prepared: Prepared,
    corruption: CorruptionName,
    settings: Corrupt,
    root: Path,
    progress: Progress = no_progress,
) -> CorruptedSplit:
    """Read the published corrupted images, or corrupt the test split.

    Published images that lie by class are put where the test split has images of their class, the first of a class first:
    so the labels are those of the test split, whatever the source.

    Args:
        prepared: with its test split.
        corruption: a key of ``rift.data.corruptions.CORRUPTIONS``.
        settings: ``source`` says which of the two: ``auto`` takes the published images where they lie under the data root,
            ``published`` downloads them if need be.
        root: the data root.
        progress: of the download.

    Raises:
        RiftError: there is no published set, or it cannot be had, or is not one of this test split; or more images are
            asked for than there are.
    """
    name, labels = prepared.facts["dataset"], prepared.labels["test"]
    count = len(labels) if settings.images == "all" else settings.images
    if count > len(labels):
        raise RiftError(
            f"corrupt.images: {count} images asked for, but the test split has {len(labels)}"
        )
    published = DATASETS[name].corrupted
    if published is None and settings.source == "published":
        raise RiftError(
            f"corrupt.source: no corrupted {name} has been published; say generated or auto"
        )
    found = None
    if published is not None and settings.source != "generated":
        found = _published(published, corruption, settings, root, progress)
    if published is None or found is None:
        images = corrupt(prepared.images["test"][:count], corruption, settings.seed)
        if published is not None and published.jpeg_quality is not None:
            images = np.stack([_stored(severity, published.jpeg_quality) for severity in images])
        return CorruptedSplit(corruption, np.moveaxis(images, 2, -1), "generated")
    images, theirs = published.read(found, prepared.classes)
    wanted = np.moveaxis(prepared.images["test"][:1], 1, -1).shape[1:]
    if images.shape[2:] != wanted or not np.array_equal(np.sort(theirs), np.sort(labels)):
        raise RiftError(
            f"{found}: is not the corrupted copy of this test split: it holds {len(theirs)} images of {images.shape[2:]}"
            f" values, wanted are {len(labels)} of {wanted}, as many of each class; corrupt.source: generated makes one"
        )
    if not np.array_equal(theirs, labels):
        place = np.empty(len(labels), dtype=np.int64)
        place[np.argsort(labels, kind="stable")] = np.argsort(theirs, kind="stable")
        images = images[:, place]
    return CorruptedSplit(corruption, images[:, :count], "published")


def _stored(images: Array, quality: int) -> Array:
    """Send images (uint8, N×C×H×W) through JPEG files, as the published ones have gone."""
    parts = [
        images[start : start + CHUNK].astype(np.float32) / np.float32(255)
        for start in range(0, len(images), CHUNK)
    ]
    rng = np.random.default_rng(0)  # not drawn from
    return np.concatenate([to_uint8(jpeg_compression(part, quality, rng)) for part in parts])


def _published(
    published: Corrupted,
    corruption: CorruptionName,
    settings: Corrupt,
    root: Path,
    progress: Progress,
) -> Path | None:
    found = published.find(root, corruption)
    for archive in published.archives if settings.source == "published" else ():
        if found is None:
            obtain(root, archive, progress)
            found = published.find(root, corruption)
    if found is None and settings.source == "published":
        folders = " or ".join(str(root / archive.folder) for archive in published.archives)
        raise RiftError(
            f"{folders}: holds no {corruption}; unpack it anew, or say corrupt.source: generated"
        )
    return found


def save(path: Path, split: CorruptedSplit, labels: Array, source: Provenance) -> None:
    """Write ``NAME.npy``, and beside it ``NAME.json`` and ``labels.npy``.

    Args:
        path: of ``NAME.npy``.
        split: the images.
        labels: of the test split.
        source: provenance.
    """
    count = split.images.shape[1]
    write_array(path.with_name("labels.npy"), np.tile(labels[:count], SEVERITIES))
    facts = {
        "corruption": split.corruption,
        "source": split.source,
        "images": count,
        "labels": _digest(labels[:count]),
    }
    write_json(path.with_suffix(".json"), facts, source)
    write_array(path, split.images.reshape(SEVERITIES * count, *split.images.shape[2:]))


def load(path: Path, labels: Array) -> CorruptedSplit:
    """Read what ``save`` wrote; the images stay on disk until they are looked at.

    Args:
        path: of ``NAME.npy``.
        labels: of the test split.

    Raises:
        RiftError: files are missing or damaged, or are not of this test split.
    """
    images = read_array(path)
    facts = read_json(path.with_suffix(".json"), ("corruption", "source", "images", "labels"))
    count = facts["images"]
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != SEVERITIES * count:
        raise RiftError(
            f"{path}: holds {images.shape} {images.dtype} values instead of {count} images at 5 severities"
        )
    if facts["labels"] != _digest(labels[:count]):
        raise RiftError(f"{path}: was not made from this test split; run rift corrupt again")
    return CorruptedSplit(
        facts["corruption"], images.reshape(SEVERITIES, count, *images.shape[1:]), facts["source"]
    )


def severities_of(
    path: Path, prepared: Prepared, settings: Ood, *, data: str, device: "str | torch.device"
) -> CorruptedImages:
    """Read the severities that are evaluated, as images on a device.

    Args:
        path: of ``NAME.npy``.
        prepared: with its test split.
        settings: severities, and how many images of each.
        data: name of the prepared data set, for messages.
        device: where the images are needed.

    Raises:
        RiftError: the file is missing or damaged, or was not made from this test split.
    """
    import torch

    from rift.data.images import Images

    if path.suffix != ".npy":
        raise RiftError(f"--corrupted: {path}: is not a .npy file of rift corrupt")
    split = load(path, prepared.labels["test"])
    expected = np.moveaxis(prepared.images["test"][:1], 1, -1).shape[1:]
    if split.images.shape[2:] != expected:
        raise RiftError(
            f"{path}: was not made from the test split of {data}; run rift corrupt again"
        )
    labels = torch.from_numpy(prepared.labels["test"][: split.images.shape[1]])
    severities = {}
    for level in settings.severities:
        pixels = torch.from_numpy(np.moveaxis(np.array(split.images[level - 1]), -1, 1))
        images = Images.of(pixels, labels).first(settings.images, f"{path}: evaluate.ood.images")
        severities[level] = images.to(device)
    return CorruptedImages(split.corruption, split.source, severities)


def _digest(labels: Array) -> str:
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()
