"""Stanford Dogs (Khosla et al. 2011), from the official files, with its published split."""

from pathlib import Path

from rift.data.sources.folders import Listed, check_counts, missing, source_of
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
    found = {
        "classes": len({name for _, name in train}),
        "training images": len(train),
        "test images": len(test),
    }
    check_counts(folder, found, COUNTS)
    return source_of(folder, train, test, side)


def _listed(folder: Path, name: str) -> Listed:
    """Return the images that a list names, with their classes."""
    import scipy.io

    path = folder / name
    try:
        entries = scipy.io.loadmat(path)["file_list"].ravel()
        files = [Path(str(entry.item())) for entry in entries]
    except FileNotFoundError as error:
        raise missing(path, f"lists.tar of {URL}", path) from error
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RiftError(f"{path}: is not the published list; unpack {URL} again") from error
    if any(".." in file.parts or file.is_absolute() for file in files):
        raise RiftError(f"{path}: names files outside of Images; unpack {URL} again")
    return [(folder / "Images" / file, file.parent.name) for file in files]
