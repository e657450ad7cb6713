"""Tiny-ImageNet (Le and Yang 2015), from the official folder.

The labelled validation images serve as the test split, as in the paper, because the official test
images have no labels. A label is the index of the class in the sorted list of class identifiers, as
in common checkpoints.
"""

import re
from pathlib import Path

import numpy as np

from rift.artifacts import Array
from rift.data.sources.decoding import decode
from rift.data.sources.source import Archive, Source
from rift.errors import RiftError

ARCHIVE = Archive(
    "tiny-imagenet-200",
    "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
    "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
)
RAW = tuple(f"{ARCHIVE.folder}/{name}" for name in ("wnids.txt", "train", "val"))
SIDE = 64


def tiny_imagenet(root: Path) -> Source:
    """Read the training and validation images.

    The files are sorted by class. The training images are therefore shuffled with a fixed seed, so
    that the first images and every batch contain many classes.

    Raises:
        RiftError: files are missing or damaged, or have been moved.
    """
    folder = root / ARCHIVE.folder
    listed = _lines(folder / "wnids.txt")
    classes = tuple(sorted(listed))
    found = {path.name for path in (folder / "train").glob("*") if path.is_dir()}
    if len(set(classes)) < len(classes) or found != set(classes):
        differing = sorted(found.symmetric_difference(classes)) or ["a class twice"]
        raise RiftError(
            f"{folder / 'wnids.txt'}: does not name the classes of {folder / 'train'}, each once"
            f" ({differing[0]}); unpack {ARCHIVE.url} again"
        )
    train, labels = files_of_classes(folder / "train", classes, "images")
    test, test_labels = _annotated(folder / "val", classes)
    images, train_digest = decode(train, SIDE)
    test_images, test_digest = decode(test, SIDE)
    order = np.random.default_rng(0).permutation(len(train))
    checksums = {"train/*/images/*.JPEG": train_digest, "val/images/*.JPEG": test_digest}
    return Source(images[order], labels[order], classes, checksums, test_images, test_labels)


def _annotated(folder: Path, classes: tuple[str, ...]) -> tuple[list[Path], Array]:
    """Return paths and labels of the validation images, as in ``val_annotations.txt``."""
    annotations, images = folder / "val_annotations.txt", folder / "images"
    if not images.is_dir():
        raise RiftError(
            f"{images}: is missing; if the images have been sorted into class folders, unpack"
            f" {ARCHIVE.url} again: rift reads their classes from val_annotations.txt"
        )
    lines = [line.split("\t") for line in _lines(annotations)]
    for number, line in enumerate(lines, start=1):
        if len(line) < 2 or "/" in line[0] or line[1] not in classes:
            raise RiftError(
                f"{annotations}, line {number}: is not the name of an image, a tab and a class of"
                f" wnids.txt; unpack {ARCHIVE.url} again"
            )
    names = [name for name, *_ in lines]
    found = {path.name for path in images.glob("*.JPEG") if not path.name.startswith(".")}
    unlabelled = sorted(found.difference(names))
    if unlabelled or len(set(names)) < len(names):
        problem = f"has no line for {unlabelled[0]}" if unlabelled else "names an image twice"
        raise RiftError(f"{annotations}: {problem}; unpack {ARCHIVE.url} again")
    labels = np.array([classes.index(wnid) for _, wnid, *_ in lines], dtype=np.int64)
    missing = sorted(set(classes).difference(wnid for _, wnid, *_ in lines))
    if missing:
        raise RiftError(
            f"{annotations}: names no image of class {missing[0]}; unpack {ARCHIVE.url} again"
        )
    return [images / name for name in names], labels


def files_of_classes(
    folder: Path, classes: tuple[str, ...], within: str = ""
) -> tuple[list[Path], Array]:
    """Return the JPEG files of all class folders, sorted by class and number, and their labels.

    Args:
        folder: folder that contains one folder for each class.
        classes: names of the class folders in the order of the labels.
        within: subfolder of each class folder that contains the images.

    Returns:
        N paths, and labels, int64, N.

    Raises:
        RiftError: a class has no folder or no image, or lacks an image that its list of boxes
            (``NAME_boxes.txt``) names.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = (folder / name / within).glob("*.JPEG")
        found = sorted((path for path in files if not path.name.startswith(".")), key=_numbers)
        if not found:
            raise RiftError(
                f"{folder / name / within}: contains no image (*.JPEG) of class {name}; unpack the"
                " data set again"
            )
        boxes = folder / name / f"{name}_boxes.txt"
        listed = [line.split("\t")[0] for line in _lines(boxes)] if boxes.exists() else []
        missing = sorted(set(listed).difference(path.name for path in found))
        if missing:
            raise RiftError(
                f"{folder / name / within}: lacks {len(missing)} of the {len(listed)} images that"
                f" {boxes.name} names, such as {missing[0]}; unpack the data set again"
            )
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, dtype=np.int64)


def _numbers(path: Path) -> tuple[list[int], str]:
    """Return the sort key of a file: the numbers in its name, then the name."""
    return [int(number) for number in re.findall(r"\d+", path.stem)], path.name


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        RiftError: the file cannot be read or is not text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise RiftError(
            f"{path}: cannot be read ({reason}); unpack {ARCHIVE.url} again, or delete"
            f" {ARCHIVE.folder} and run rift prepare, which downloads it"
        ) from error
