"""Data sets by name, those of users among them."""

from collections.abc import Callable

from rift.config import ARRAYS, IMAGE_FOLDER, whole_dataset
from rift.data.sources import DATASETS
from rift.data.sources.array_file import array_file
from rift.data.sources.folders import image_folder
from rift.data.sources.source import Dataset

OWN: dict[str, Callable[[str], Dataset]] = {IMAGE_FOLDER: image_folder, ARRAYS: array_file}
"""Function (name without prefix) → data set, by prefix."""


def dataset_named(name: str) -> Dataset:
    """Return a data set of rift or of a user.

    Args:
        name: key of ``DATASETS``, ``image-folder:NAME`` or ``arrays:NAME``, or a range of the
            classes of one of them (``digits-0-4``).
    """
    whole = str(whole_dataset(name))
    for prefix, make in OWN.items():
        if whole.startswith(prefix):
            return make(whole.removeprefix(prefix))
    return DATASETS[whole_dataset(name)]
