"""Stanford Dogs (Khosla et al. 2011), from the official files, with its published split."""

from pathlib import Path

from rift.data.sources.folders import Listed, listed_image, missing, published_source
from rift.data.sources.source import Source
from rift.errors import RiftError

FOLDER = "stanford-dogs"
URL = "http://vision.stanford.edu/aditya86/ImageNetDogs/"
COUNTS = {"classes": 120, "training images": 12_000, "test images": 8_580}


def stanford_dogs(root: Path, side: int) -> Source:
    """Read the folder ``Images``, and its split from ``train_list.mat`` and ``test_list.mat``.

    Raises:
        RiftError: the data set is missing, or not the published one.
    """
    folder = root / FOLDER
    if not (folder / "Images").is_dir():
        raise missing(folder / "Images", f"images.tar and lists.tar of {URL}", folder / "Images")
    train, test = (_listed(folder, f"{split}_list.mat") for split in ("train", "test"))
    return published_source(folder, train, test, side, COUNTS)


def _listed(folder: Path, name: str) -> Listed:
    """Return the images that a list names, with their classes."""
    import scipy.io

    path = folder / name
    if not path.is_file():  # scipy does not say so
        raise missing(path, f"lists.tar of {URL}", path)
    try:
        names = [str(entry.item()) for entry in scipy.io.loadmat(path)["file_list"].ravel()]
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RiftError(f"{path}: is not the published list; unpack {URL} again") from error
    return [listed_image(folder / "Images", each, URL) for each in names]
