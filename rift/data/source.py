"""What a data set's function returns, and files that were published with a checksum."""

import hashlib
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
        checksums: sha256 of every file read, by its name; of many small ones one over them all.
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
        raise RiftError(f"{path}: cannot be read ({error.strerror}); it is part of {archive.url}") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise RiftError(
            f"{path}: is not the published file (its md5 is {found}, published: {md5});"
            f" delete {path.parent} and run rift prepare again, or unpack {archive.url} anew"
        )
    return content
