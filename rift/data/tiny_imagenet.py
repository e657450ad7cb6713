"""Tiny-ImageNet (Le and Yang 2015), from the official folder.

The labelled validation images serve as the test split, as in the paper: the official test images have no labels. Labels
are places in the sorted list of class identifiers, as common checkpoints have them.
"""

import re
from pathlib import Path

import numpy as np

from rift.artifacts import Array
from rift.data.jpeg import decode
from rift.data.source import Archive, Source
from rift.errors import RiftError

ARCHIVE = Archive(
    "tiny-imagenet-200", "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"
)
SIDE = 64


def tiny_imagenet(root: Path) -> Source:
    """Read training and validation images.

    Raises:
        RiftError: files are missing, damaged or rearranged.
    """
    folder = root / ARCHIVE.folder
    classes = tuple(sorted(_lines(folder / "wnids.txt")))
    train, labels = files_of_classes(folder / "train", classes, "images")
    annotated = [line.split("\t") for line in _lines(folder / "val" / "val_annotations.txt")]
    test = [folder / "val" / "images" / name for name, *_ in annotated]
    foreign = sorted({wnid for _, wnid, *_ in annotated} - set(classes))
    if foreign:
        raise RiftError(f"{folder / 'val' / 'val_annotations.txt'}: names classes that wnids.txt lacks: {foreign[0]}")
    if not (folder / "val" / "images").is_dir():
        raise RiftError(
            f"{folder / 'val' / 'images'}: is missing; if the images have been sorted into class folders, unpack"
            f" {ARCHIVE.url} anew: val_annotations.txt says which class each is of"
        )
    unlabelled = sorted({path.name for path in (folder / "val" / "images").iterdir()} - {path.name for path in test})
    if unlabelled:
        raise RiftError(f"{folder / 'val' / 'images' / unlabelled[0]}: has no line in val_annotations.txt")
    images, train_digest = decode(train, SIDE)
    test_images, test_digest = decode(test, SIDE)
    test_labels = np.array([classes.index(wnid) for _, wnid, *_ in annotated], dtype=np.int64)
    checksums = {"train/*/images/*.JPEG": train_digest, "val/images/*.JPEG": test_digest}
    return Source(images, labels, classes, checksums, test_images, test_labels)


def files_of_classes(folder: Path, classes: tuple[str, ...], within: str = "") -> tuple[list[Path], Array]:
    """List the JPEG files of every class folder, by class and then by number, and their labels.

    Raises:
        RiftError: a class has no folder or no image.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted((folder / name / within).glob("*.JPEG"), key=_numbers)
        if not found:
            raise RiftError(f"{folder / name / within}: holds no image (*.JPEG) of class {name}; unpack the set anew")
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, dtype=np.int64)


def _numbers(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", path.stem)], path.name


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RiftError(f"{path}: cannot be read ({error}); it is part of {ARCHIVE.url}") from error
