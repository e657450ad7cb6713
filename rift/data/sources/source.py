"""What a data set consists of, and files that were published with a checksum."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rift.artifacts import Array
from rift.errors import RiftError


@dataclass(frozen=True)
class Source:
    """A data set as it lies on disk.

    Attributes:
        images: all images that may be trained on, uint8, N×C×H×W.
        labels: their labels, int64, N.
        classes: names of the classes in the order of their labels.
        checksums: sha256 of every file read, by its name; of many small files one over them all.
        test_images: the official test split, or None where there is none.
        test_labels: its labels.
    """

    images: Array
    labels: Array
    classes: tuple[str, ...]
    checksums: dict[str, str]
    test_images: "Array | None" = None
    test_labels: "Array | None" = None


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        folder: what it unpacks to.
        url: where it is downloaded from.
        md5: its published checksum.
    """

    folder: str
    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Corrupted:
    """A published corrupted copy of the test split.

    Attributes:
        archives: what is downloaded; all unpack beside each other.
        find: function of (data root, corruption) → where it lies, None if it does not.
        read: function of (where it lies, class names) → images, uint8, 5×N×H×W×C, and labels, int64, N.
        jpeg_quality: of the files, where the images were stored as JPEG after the corruption.
    """

    archives: tuple[Archive, ...]
    find: Callable[[Path, str], Path | None]
    read: Callable[[Path, tuple[str, ...]], tuple[Array, Array]]
    jpeg_quality: int | None = None


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set.

    Attributes:
        read: function of the data root → ``Source``.
        archive: what to download if it is not there; None where it comes with a package.
        corrupted: its published corrupted test split, where there is one.
    """

    read: Callable[[Path], Source]
    archive: Archive | None = None
    corrupted: Corrupted | None = None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, md5: str, archive: Archive) -> bytes:
    """Read a file whose checksum is published.

    Raises:
        RiftError: it is missing, cannot be read, or is not the published one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RiftError(
            f"{path}: cannot be read ({error.strerror}); it is part of {archive.url}"
        ) from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise RiftError(
            f"{path}: is not the published file (its md5 is {found}, published: {md5});"
            f" unpack {archive.url} anew, or delete {path.parent} to have it downloaded again"
        )
    return content
