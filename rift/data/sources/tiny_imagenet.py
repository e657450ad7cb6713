"""Tiny-ImageNet (Le and Yang 2015), from the official folder.

The labelled validation images serve as the test split, as in the paper: the official test images have no labels. Labels
are places in the sorted list of class identifiers, as common checkpoints have them.
"""

import re
from pathlib import Path

import numpy as np

from rift.artifacts import Array
from rift.data.sources.jpeg import decode
from rift.data.sources.source import Archive, Source
from rift.errors import RiftError

ARCHIVE = Archive(
    "tiny-imagenet-200",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
)
SIDE = 64


def tiny_imagenet(root: Path) -> Source:
    """Read training and validation images.

    The training images are put into one random order, always the same: they lie by class, and whoever takes the first of
    them, or batches of them, means images of all classes.

    Raises:
        RiftError: files are missing, damaged or rearranged.
    """
    folder = root / ARCHIVE.folder
    listed = _lines(folder / "wnids.txt")
    classes = tuple(sorted(listed))
    found = {path.name for path in (folder / "train").glob("*") if path.is_dir()}
    if len(set(classes)) < len(classes) or found != set(classes):
        differing = sorted(found.symmetric_difference(classes)) or ["a class twice"]
        raise RiftError(
            f"{folder / 'wnids.txt'}: does not name the classes of {folder / 'train'}, each once ({differing[0]}); unpack"
            f" {ARCHIVE.url} anew"
        )
    train, labels = files_of_classes(folder / "train", classes, "images")
    test, test_labels = _annotated(folder / "val", classes)
    images, train_digest = decode(train, SIDE)
    test_images, test_digest = decode(test, SIDE)
    order = np.random.default_rng(0).permutation(len(train))
    checksums = {"train/*/images/*.JPEG": train_digest, "val/images/*.JPEG": test_digest}
    return Source(images[order], labels[order], classes, checksums, test_images, test_labels)


def _annotated(folder: Path, classes: tuple[str, ...]) -> tuple[list[Path], Array]:
    """List the validation images and their labels, by ``val_annotations.txt``."""
    annotations, images = folder / "val_annotations.txt", folder / "images"
    if not images.is_dir():
        raise RiftError(
            f"{images}: is missing; if the images have been sorted into class folders, unpack {ARCHIVE.url} anew:"
            " val_annotations.txt says which class each is of"
        )
    lines = [line.split("\t") for line in _lines(annotations)]
    for number, line in enumerate(lines, start=1):
        if len(line) < 2 or "/" in line[0] or line[1] not in classes:
            raise RiftError(
                f"{annotations}, line {number}: is not the name of an image, a tab and a class of wnids.txt"
            )
    names = [name for name, *_ in lines]
    lying = {path.name for path in images.glob("*.JPEG") if not path.name.startswith(".")}
    unlabelled = sorted(lying.difference(names))
    if unlabelled or len(set(names)) < len(names):
        what = f"has no line for {unlabelled[0]}" if unlabelled else "names an image twice"
        raise RiftError(f"{annotations}: {what}; unpack {ARCHIVE.url} anew")
    labels = np.array([classes.index(wnid) for _, wnid, *_ in lines], dtype=np.int64)
    missing = sorted(set(classes).difference(wnid for _, wnid, *_ in lines))
    if missing:
        raise RiftError(
            f"{annotations}: names no image of class {missing[0]}; unpack {ARCHIVE.url} anew"
        )
    return [images / name for name in names], labels


def files_of_classes(
    folder: Path, classes: tuple[str, ...], within: str = ""
) -> tuple[list[Path], Array]:
    """List the JPEG files of every class folder, by class and then by number, and their labels.

    Raises:
        RiftError: a class has no folder or no image.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = (folder / name / within).glob("*.JPEG")
        found = sorted((path for path in files if not path.name.startswith(".")), key=_numbers)
        if not found:
            raise RiftError(
                f"{folder / name / within}: holds no image (*.JPEG) of class {name}; unpack the set anew"
            )
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, dtype=np.int64)


def _numbers(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", path.stem)], path.name


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise RiftError(
            f"{path}: cannot be read ({reason}); it is part of {ARCHIVE.url}: unpack it anew, or delete {ARCHIVE.folder}"
            " and run rift prepare, which downloads it"
        ) from error
