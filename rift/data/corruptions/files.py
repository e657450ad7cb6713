"""The corrupted test split of a data set, published or generated, and its files.

The files have the layout of the published ones. Each corruption has ``NAME.npy`` (uint8,
5N×H×W×C, severity 1 first) and ``NAME.json`` (provenance). ``labels.npy`` (int64, 5N) in the same
folder is for other programs; rift uses the labels of the test split. Programs that read CIFAR-10-C
assume that N is 10,000.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from rift.artifacts import (
    Array,
    Provenance,
    digest_of_arrays,
    read_array,
    read_json,
    write_array,
    write_json,
)
from rift.config import Corrupt, CorruptionName, Ood, class_range
from rift.data.corruptions.corrupting import CHUNK, corrupt
from rift.data.corruptions.digital import jpeg_compression
from rift.data.corruptions.pixels import to_uint8
from rift.data.corruptions.published import SEVERITIES
from rift.data.memory import is_mapped, limit
from rift.data.prepared import Prepared
from rift.data.sources.download import obtain
from rift.data.sources.named import dataset_named
from rift.data.sources.ranges import in_range
from rift.data.sources.source import Corrupted
from rift.errors import RiftError
from rift.progress import Progress, no_progress

if TYPE_CHECKING:
    import torch

    from rift.data.images import Images


@dataclass(frozen=True)
class CorruptedSplit:
    """Test images after one corruption, as an array.

    Attributes:
        corruption: name of the corruption.
        images: uint8, 5×N×H×W×C, severity 1 first; the labels are those of the first N test images.
        source: whether the images were published or generated here.
    """

    corruption: str
    images: Array
    source: Literal["published", "generated"]


@dataclass(frozen=True)
class CorruptedImages:
    """Test images after one corruption, on a device.

    Attributes:
        corruption: name of the corruption.
        source: whether the images were published or generated here.
        severities: images by severity (1 to 5), for the severities that are evaluated.
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

    Published images that are sorted by class are put in the order of the labels of the test split;
    images of the same class keep their order. The labels are therefore those of the test split for
    both sources.

    Args:
        prepared: prepared data set with its test split.
        corruption: key of ``rift.data.corruptions.CORRUPTIONS``.
        settings: number of images, seed, and source: ``auto`` uses the published images if they
            exist under the data root, ``published`` downloads them if necessary.
        root: data root.
        progress: called during the download.

    Raises:
        RiftError: no corrupted set has been published, it cannot be downloaded, or it does not
            belong to this test split; or ``corrupt.images`` is larger than the test split.
    """
    name, labels = prepared.facts["dataset"], prepared.labels["test"]
    count = len(labels) if settings.images == "all" else settings.images
    if count > len(labels):
        raise RiftError(
            f"corrupt.images: is {count}, but the test split has {len(labels)} images; choose at"
            f" most {len(labels)}, or all"
        )
    published = dataset_named(name).corrupted
    if published is None and settings.source == "published":
        raise RiftError(
            f"corrupt.source: no corrupted {name} has been published; set it to generated or auto"
        )
    found = None
    if published is not None and settings.source != "generated":
        found = _published(published, corruption, settings, root, progress)
    if published is None or found is None:
        images = corrupt(prepared.images["test"][:count], corruption, settings.seed)
        if published is not None and published.jpeg_quality is not None:
            images = np.stack([_stored(severity, published.jpeg_quality) for severity in images])
        return CorruptedSplit(corruption, np.moveaxis(images, 2, -1), "generated")
    images, published_labels = published.read(found, prepared.classes)
    limits = class_range(name)
    if limits is not None and not published.by_class:
        inside = in_range(published_labels, limits)
        images, published_labels = images[:, inside], published_labels[inside] - limits[0]
    expected = np.moveaxis(prepared.images["test"][:1], 1, -1).shape[1:]
    same_classes = np.array_equal(np.sort(published_labels), np.sort(labels))
    if images.shape[2:] != expected or not same_classes:
        raise RiftError(
            f"{found}: does not belong to this test split: it contains {len(published_labels)}"
            f" images of shape {images.shape[2:]}; expected are {len(labels)} of shape {expected},"
            " with the same number per class; set corrupt.source: generated"
        )
    if not np.array_equal(published_labels, labels):
        order = np.empty(len(labels), dtype=np.int64)
        order[np.argsort(labels, kind="stable")] = np.argsort(published_labels, kind="stable")
        images = images[:, order]
    return CorruptedSplit(corruption, images[:, :count], "published")


def _stored(images: Array, quality: int) -> Array:
    """Return images (uint8, N×C×H×W) after JPEG compression, as the published ones were stored."""
    parts = [
        images[start : start + CHUNK].astype(np.float32) / np.float32(255)
        for start in range(0, len(images), CHUNK)
    ]
    # JPEG compression draws no numbers from it.
    rng = np.random.default_rng(0)
    return np.concatenate([to_uint8(jpeg_compression(part, quality, rng)) for part in parts])


def _published(
    published: Corrupted,
    corruption: CorruptionName,
    settings: Corrupt,
    root: Path,
    progress: Progress,
) -> Path | None:
    """Return the path of the published images, or None if ``auto`` does not find them."""
    found = published.find(root, corruption)
    for archive in published.archives if settings.source == "published" else ():
        if found is None:
            obtain(root, archive, progress)
            found = published.find(root, corruption)
    if found is None and settings.source == "published":
        folders = " or ".join(str(root / archive.folder) for archive in published.archives)
        raise RiftError(
            f"{folders}: contains no {corruption}; unpack the archive again, or set corrupt.source:"
            " generated"
        )
    return found


def save(
    path: Path,
    split: CorruptedSplit,
    labels: Array,
    source: Provenance,
    *,
    raw: str | None = None,
) -> None:
    """Write ``NAME.npy``, and ``NAME.json`` and ``labels.npy`` next to it.

    Args:
        path: path of ``NAME.npy``.
        split: corrupted images.
        labels: labels of the test split, int64.
        source: provenance.
        raw: digest of the published files that the images come from; None if there are none.

    Raises:
        RiftError: a file cannot be written.
    """
    count = split.images.shape[1]
    write_array(path.with_name("labels.npy"), np.tile(labels[:count], SEVERITIES))
    facts = {
        "corruption": split.corruption,
        "source": split.source,
        "images": count,
        "raw": raw,
        "labels": _digest(labels[:count]),
        # Each severity has its own digest, because evaluations may read only some of them.
        "severities": [digest_of_arrays({"images": each}) for each in split.images],
    }
    write_json(path.with_suffix(".json"), facts, source)
    write_array(path, split.images.reshape(SEVERITIES * count, *split.images.shape[2:]))


def load(
    path: Path, labels: Array, severities: Iterable[int] = range(1, SEVERITIES + 1)
) -> CorruptedSplit:
    """Read the files that ``save`` wrote; the images of other severities stay on the disk.

    Args:
        path: path of ``NAME.npy``.
        labels: labels of the test split, int64.
        severities: severities (1 to 5) whose digests are checked.

    Raises:
        RiftError: files are missing or damaged, or were not made from this test split.
    """
    images = read_array(path)
    facts = read_json(path.with_suffix(".json"), ("corruption", "source", "images", "labels"))
    count = facts["images"]
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != SEVERITIES * count:
        raise RiftError(
            f"{path}: contains {images.shape} {images.dtype} values instead of {count} images at"
            " 5 severities; delete it and run rift corrupt again"
        )
    if facts["labels"] != _digest(labels[:count]):
        raise RiftError(f"{path}: was not made from this test split; run rift corrupt again")
    images = images.reshape(SEVERITIES, count, *images.shape[1:])
    # Files of earlier versions have no digests.
    known = facts.get("severities", [])
    for severity in severities if known else ():
        found = digest_of_arrays({"images": images[severity - 1]})
        if found != known[severity - 1]:
            raise RiftError(
                f"{path}: is damaged: the images of severity {severity} do not match their digest"
                f" in {path.with_suffix('.json').name}; delete it and run rift corrupt again"
            )
    return CorruptedSplit(facts["corruption"], images, facts["source"])


def severities_of(
    path: Path, prepared: Prepared, settings: Ood, *, data: str, device: "str | torch.device"
) -> CorruptedImages:
    """Return the images of the evaluated severities, on a device.

    Args:
        path: path of ``NAME.npy``.
        prepared: prepared data set with its test split.
        settings: severities, and number of images at each.
        data: name of the prepared data set, for messages.
        device: device of the images.

    Raises:
        RiftError: the file is missing or damaged, or was not made from this test split.
    """
    import torch

    from rift.data.images import Images

    if path.suffix != ".npy":
        raise RiftError(f"--corrupted: {path}: is not a .npy file; name a file of rift corrupt")
    split = load(path, prepared.labels["test"], settings.severities)
    expected = np.moveaxis(prepared.images["test"][:1], 1, -1).shape[1:]
    if split.images.shape[2:] != expected:
        raise RiftError(
            f"{path}: was not made from the test split of {data}; run rift corrupt again"
        )
    labels = torch.from_numpy(prepared.labels["test"][: split.images.shape[1]])
    severities = {}
    for level in settings.severities:
        pixels = np.moveaxis(split.images[level - 1], -1, 1)
        if is_mapped(split.images) and len(settings.severities) * pixels.nbytes > limit():
            images = Images.mapped(pixels, labels)
        else:
            images = Images.of(torch.from_numpy(pixels.copy()), labels)
        images = images.first(settings.images, f"{path}: evaluate.ood.images")
        severities[level] = images.to(device)
    return CorruptedImages(split.corruption, split.source, severities)


def _digest(labels: Array) -> str:
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()
