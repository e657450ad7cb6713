"""Descriptions of data sets, and checks of published files against their checksums."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rift.artifacts import Array
from rift.errors import RiftError

SIDE = 224
"""Side of images of any size in pixels, unless a setting says otherwise."""


@dataclass(frozen=True)
class Source:
    """A data set as published, before it is divided into splits.

    Attributes:
        images: all images outside the official test split, uint8, N×C×H×W.
        labels: labels of these images, int64, N.
        classes: class names in the order of the labels.
        checksums: sha256 of every file read, by file name; many small files share one checksum.
        test_images: images of the official test split, uint8, N×C×H×W; None if there is none.
        test_labels: labels of the official test split, int64, N; None if there is none.
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
        folder: name of the folder that the archive unpacks to.
        url: address of the download.
        md5: published checksum.
        sha256: checksum of the file with that md5; None if nobody has measured it.
    """

    folder: str
    url: str
    md5: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Return the file name of the archive."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Corrupted:
    """A published corrupted copy of the test split.

    Attributes:
        archives: archives to download; all unpack into the data root.
        find: function (data root, corruption) → path of the corrupted images, None if missing.
        read: function (path, class names) → images, uint8, 5×N×H×W×C, and labels, int64, N.
        jpeg_quality: JPEG quality of the corrupted images; None if they were not stored as JPEG.
        by_class: whether ``read`` finds images by class names. Otherwise it reads those of all
            classes of the data set.
    """

    archives: tuple[Archive, ...]
    find: Callable[[Path, str], Path | None]
    read: Callable[[Path, tuple[str, ...]], tuple[Array, Array]]
    jpeg_quality: int | None = None
    by_class: bool = False


@dataclass(frozen=True)
class Dataset:
    """A data set that rift supports.

    Attributes:
        read: function (data root) → ``Source``; with ``any_size``, function (data root, side of
            the images in pixels) → ``Source``.
        archive: archive to download if the data root lacks it; None if a package contains the data.
        corrupted: published corrupted test split; None if there is none.
        raw: files and folders below the data root that ``read`` reads; empty if a package contains
            the data.
        any_size: whether the images have any size, so that they are resized.
    """

    read: Callable[..., Source]
    archive: Archive | None = None
    corrupted: Corrupted | None = None
    raw: tuple[str, ...] = ()
    any_size: bool = False

    def source(self, root: Path, side: int | None) -> Source:
        """Read the data set.

        Args:
            root: data root.
            side: side of the images in pixels, for images of any size; None for ``SIDE``.

        Raises:
            RiftError: the data set is missing or damaged, or its images have one size.
        """
        if self.any_size:
            return self.read(root, side or SIDE)
        if side is not None:
            raise RiftError(
                "data.side: the images of this data set have one size; remove the setting"
            )
        return self.read(root)


def sha256(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, md5: str, archive: Archive, sha256: str | None = None) -> bytes:
    """Return the content of a file after a check against its checksums.

    Args:
        path: path of the file.
        md5: published checksum of the file.
        archive: archive that contains the file, for error messages.
        sha256: checksum of the file with that md5; None if it is unknown.

    Raises:
        RiftError: the file is missing, cannot be read, or does not match its checksums.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RiftError(
            f"{path}: cannot be read ({error.strerror}); unpack {archive.url} again"
        ) from error
    found = {
        "md5": (hashlib.md5(content, usedforsecurity=False).hexdigest(), md5),
        "sha256": (hashlib.sha256(content).hexdigest(), sha256),
    }
    for name, (digest, expected) in found.items():
        if expected not in (digest, None):
            raise RiftError(
                f"{path}: is not the published file (its {name} is {digest}, published:"
                f" {expected}); unpack {archive.url} again, or delete {path.parent} and run the"
                " command again, which downloads it"
            )
    return content
