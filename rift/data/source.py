"""What a data set's function returns."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rift.artifacts import Array


@dataclass(frozen=True)
class Source:
    """A data set as it lies on disk.

    Attributes:
        images: all images that may be trained on, uint8, N×C×H×W.
        labels: their labels, int64, N.
        classes: names of the classes in the order of their labels.
        checksums: sha256 of every file read, by its name.
        test_images: the official test split, or None where there is none.
        test_labels: its labels.
    """

    images: Array
    labels: Array
    classes: tuple[str, ...]
    checksums: dict[str, str]
    test_images: "Array | None" = None
    test_labels: "Array | None" = None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
