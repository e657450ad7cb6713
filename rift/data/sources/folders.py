"""Images of any size in class folders, and the data sets of users that consist of them.

The shorter side of an image is resized to 8/7 of the wanted side (256 for 224), and the middle is
cut out. Colours are RGB; grey images get three equal channels.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rift.artifacts import Array
from rift.data.sources.decoding import decode
from rift.data.sources.source import Dataset, Source
from rift.errors import RiftError

ENDINGS = (".jpg", ".jpeg", ".png")
OTHER_ENDINGS = (".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".ppm", ".npy")
"""Endings of images that are not read; other files, such as notes, may lie beside the images."""
_FORMATS = "JPEG or PNG"
SPLIT_FILE = "split.csv"
Listed = list[tuple[Path, str]]
"""Images with the names of their classes."""


def image_folder(name: str) -> Dataset:
    """Return the data set of a folder below the data root.

    The folder contains ``train/CLASS/`` and ``test/CLASS/``. It may contain ``CLASS/`` alone; then
    a share of every class is the test split. With ``split.csv`` (columns ``file``, ``split``), the
    file says for each image whether it belongs to ``train`` or ``test``.

    Args:
        name: name of the folder.
    """

    def read(root: Path, side: int) -> Source:
        folder = root / name
        if not folder.is_dir():
            raise RiftError(
                f"{folder}: is no folder; put the images there, in train/CLASS/ and test/CLASS/, or"
                " set data.root"
            )
        if (folder / SPLIT_FILE).exists():
            train, test = _by_split_file(folder)
        elif (folder / "train").is_dir():
            train, test = images_by_class(folder / "train"), images_by_class(folder / "test")
        else:
            train, test = images_by_class(folder), []
        return source_of(folder, train, test, side)

    return Dataset(read, any_size=True, raw=(name,))


def images_by_class(folder: Path) -> Listed:
    """Return the images of all class folders, sorted by class and name.

    Raises:
        RiftError: the folder is missing, contains no class folder, or one has no image, images of
            another format, or folders.
    """
    classes = [path for path in _visible(folder) if path.is_dir()] if folder.is_dir() else []
    if not classes:
        raise RiftError(
            f"{folder}: contains no class folders; give every class a folder with its images"
        )
    found: Listed = []
    for path in classes:
        files = [file for file in _visible(path) if file.suffix.lower() in ENDINGS]
        if not files:
            raise RiftError(
                f"{path}: contains no image ({', '.join(ENDINGS)}); add images, or remove the"
                " folder"
            )
        for other in _visible(path):
            # Images that are left out without a word would be missing in every result.
            if other.is_dir() or other.suffix.lower() in OTHER_ENDINGS:
                what = "a folder inside a class" if other.is_dir() else f"no {_FORMATS} image"
                raise RiftError(
                    f"{other}: is {what}, which rift does not read; put its images into {path} as"
                    f" {_FORMATS} files, or move it away"
                )
        found += [(file, path.name) for file in files]
    return found


def source_of(folder: Path, train: Listed, test: Listed, side: int) -> Source:
    """Decode listed images.

    Both lists are sorted by class. They are shuffled with a fixed seed, so that the first images
    and every batch contain many classes.

    Args:
        folder: folder of the data set, for messages.
        train: training images.
        test: images of the test split; empty if there is none.
        side: side of the decoded images in pixels.

    Raises:
        RiftError: there is one class only, the test split has other classes than the training
            images, or an image cannot be read.
    """
    classes = tuple(sorted({name for _, name in train}))
    if len(classes) < 2:
        raise RiftError(
            f"{folder}: has the class {', '.join(classes)} only; a classifier needs at least two"
        )
    differing = sorted({name for _, name in test}.symmetric_difference(classes))
    if test and differing:
        raise RiftError(
            f"{folder}: {differing[0]} is a class of only one of training and test images; give"
            " both the same classes"
        )
    images, labels, digest = _decoded(train, classes, side)
    checksums = {f"{folder.name}/train": digest}
    if not test:
        return Source(images, labels, classes, checksums)
    test_images, test_labels, digest = _decoded(test, classes, side)
    checksums[f"{folder.name}/test"] = digest
    return Source(images, labels, classes, checksums, test_images, test_labels)


def published_source(
    folder: Path, train: Listed, test: Listed, side: int, published: dict[str, int]
) -> Source:
    """Decode the images of a published data set, if their numbers are the published ones.

    Args:
        folder: folder of the data set, for messages.
        train: training images; all images if no split has been published.
        test: images of the test split; empty if none has been published.
        side: side of the decoded images in pixels.
        published: number of ``classes``, and of ``images`` or of ``training images`` and ``test
            images``.

    Raises:
        RiftError: a number differs, or an image cannot be read.
    """
    found = {
        "classes": len({name for _, name in train}),
        "images": len(train) + len(test),
        "training images": len(train),
        "test images": len(test),
    }
    for what, number in published.items():
        if found[what] != number:
            raise RiftError(
                f"{folder}: contains {found[what]:,} {what}; the published data set has"
                f" {number:,}; unpack it again"
            )
    return source_of(folder, train, test, side)


def listed_image(folder: Path, name: str, url: str) -> tuple[Path, str]:
    """Return the image that a published list names as ``CLASS/FILE``, with its class.

    Raises:
        RiftError: the name leads out of the folder.
    """
    path = Path(name)
    if ".." in path.parts or path.is_absolute():
        raise RiftError(f"{folder}: a list names {name}, which is outside; unpack {url} again")
    return folder / path, path.parent.name


def missing(path: Path, url: str, folder: Path) -> RiftError:
    """Return the error for a published data set that is not there."""
    return RiftError(f"{path}: is missing; download {url} and unpack it, so that {folder} exists")


def _decoded(listed: Listed, classes: Sequence[str], side: int) -> tuple[Array, Array, str]:
    """Return images (uint8, N×3×side×side), labels (int64, N), and a digest of the files."""
    order = np.random.default_rng(0).permutation(len(listed))
    chosen = [listed[index] for index in order]
    images, digest = decode([path for path, _ in chosen], side, any_size=True)
    numbers = {name: number for number, name in enumerate(classes)}
    return images, np.array([numbers[name] for _, name in chosen], dtype=np.int64), digest


def _by_split_file(folder: Path) -> tuple[Listed, Listed]:
    """Return the training and the test images that ``split.csv`` names.

    Raises:
        RiftError: the file is not such a table, or an image is missing, named twice or not named.
    """
    path = folder / SPLIT_FILE
    lists: dict[str, Listed] = {"train": [], "test": []}
    known = {file.relative_to(folder).as_posix(): name for file, name in images_by_class(folder)}
    named: set[str] = set()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # with or without Excel's mark
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RiftError(f"{path}: cannot be read ({error}); it must be a CSV file") from error
    for number, row in enumerate(rows, start=2):
        image, split = row.get("file"), row.get("split")
        if image is None or split not in lists or image not in known or image in named:
            raise RiftError(
                f"{path}, line {number}: must name an image as CLASS/FILE, once, and its split"
                " (train or test) in the columns file and split"
            )
        named.add(image)
        lists[split].append((folder / image, known[image]))
    unnamed = sorted(set(known) - named)
    if unnamed or not lists["train"]:
        reason = f"does not name {unnamed[0]}" if unnamed else "names no training image"
        raise RiftError(f"{path}: {reason}; add a line for every image")
    return lists["train"], lists["test"]


def _visible(folder: Path) -> list[Path]:
    """Return the files and folders in a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
