"""CUB-200-2011 (Wah et al. 2011), from the official folder, with its published split."""

from pathlib import Path

from rift.data.sources.folders import Listed, listed_image, missing, published_source
from rift.data.sources.source import Source
from rift.errors import RiftError

FOLDER = "CUB_200_2011"
URL = "https://data.caltech.edu/records/65de6-vp158"
COUNTS = {"classes": 200, "training images": 5_994, "test images": 5_794}


def cub200(root: Path, side: int) -> Source:
    """Read the images, and their split from ``train_test_split.txt``.

    Raises:
        RiftError: the data set is missing, or not the published one.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        raise missing(folder, URL, folder)
    files, in_training = (_table(folder / f"{name}.txt") for name in ("images", "train_test_split"))
    if files.keys() != in_training.keys():
        raise RiftError(f"{folder}: its lists name different images; unpack {URL} again")
    lists: dict[str, Listed] = {"1": [], "0": []}
    for number, file in files.items():
        if in_training[number] not in lists:
            raise RiftError(f"{folder}: its lists are damaged at {file}; unpack {URL} again")
        lists[in_training[number]].append(listed_image(folder / "images", file, URL))
    return published_source(folder, lists["1"], lists["0"], side, COUNTS)


def _table(path: Path) -> dict[str, str]:
    """Return the second word of every line by the first."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return dict(line.split(maxsplit=1) for line in lines)
    except (OSError, ValueError) as error:
        raise RiftError(f"{path}: cannot be read; unpack {URL} again") from error
