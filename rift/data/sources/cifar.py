"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the official Python version.

The official files are pickles with published checksums. Only files that match their checksum are
opened, and even then the unpickler creates nothing but numpy arrays and plain values.
"""

import hashlib
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rift.artifacts import Array
from rift.data.sources.source import Archive, Source, verify
from rift.errors import RiftError

SIDE = 32


@dataclass(frozen=True)
class Layout:
    """Files and keys of one of the two data sets.

    Attributes:
        archive: archive to download, with the folder that it unpacks to.
        train: md5 of each training file by file name, in order.
        test: name and md5 of the test file.
        meta: name and md5 of the file of class names.
        labels: key of the labels in the training and test files.
        names: key of the class names in the file of class names.
        sha256: sha256 of the files with these md5s, by file name.
    """

    archive: Archive
    train: dict[str, str]
    test: tuple[str, str]
    meta: tuple[str, str]
    labels: str
    names: str
    sha256: dict[str, str]

    @property
    def raw(self) -> tuple[str, ...]:
        """Return the files that are read, below the data root."""
        names = (self.meta[0], *self.train, self.test[0])
        return tuple(f"{self.archive.folder}/{name}" for name in names)


CIFAR10 = Layout(
    Archive(
        "cifar-10-batches-py",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test=("test_batch", "40351d587109b95175f43aff81a1287e"),
    meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    labels="labels",
    names="label_names",
    sha256={
        "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
)
CIFAR100 = Layout(
    Archive(
        "cifar-100-python",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test=("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
    labels="fine_labels",
    names="fine_label_names",
    sha256={
        "meta": "a5d4786345c961390f865e93b434dbd5c6904ce880667e0cb888c97d449f28b9",
        "test": "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864",
        "train": "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b",
    },
)


def cifar(layout: Layout) -> Callable[[Path], Source]:
    """Return the function that reads one of the two data sets from the data root."""

    def read(root: Path) -> Source:
        folder = root / layout.archive.folder
        checksums: dict[str, str] = {}

        def opened(name: str, md5: str) -> dict[str, Any]:
            path = folder / name
            content = verify(path, md5, layout.archive, layout.sha256.get(name))
            checksums[f"{folder.name}/{name}"] = hashlib.sha256(content).hexdigest()
            return _unpickled(path, content)

        meta = opened(*layout.meta)
        classes = tuple(str(name) for name in meta[layout.names])
        parts = [
            _batch(folder / name, opened(name, md5), layout.labels)
            for name, md5 in layout.train.items()
        ]
        test_images, test_labels = _batch(
            folder / layout.test[0], opened(*layout.test), layout.labels
        )
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Source(images, labels, classes, checksums, test_images, test_labels)

    return read


def _batch(path: Path, content: dict[str, Any], key: str) -> tuple[Array, Array]:
    """Return the images (uint8, N×3×32×32) and labels (int64, N) of a file.

    Raises:
        RiftError: the images have another type or shape.
    """
    images, labels = np.asarray(content["data"]), np.asarray(content[key], dtype=np.int64)
    if images.dtype != np.uint8 or images.shape != (len(labels), 3 * SIDE * SIDE):
        raise RiftError(
            f"{path}: contains {images.shape} {images.dtype} values for {len(labels)} labels;"
            " delete its folder and run rift prepare, which downloads it"
        )
    return images.reshape(-1, 3, SIDE, SIDE), labels


class _Unpickler(pickle.Unpickler):
    """Unpickler that creates only numpy arrays and plain values."""

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype"})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in self.ALLOWED:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it contains {module}.{name}")


def _unpickled(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return dict(_Unpickler(io.BytesIO(content), encoding="latin1").load())
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError) as error:
        raise RiftError(
            f"{path}: is not a file of the official Python version ({error}); delete its folder and"
            " run rift prepare, which downloads it"
        ) from error
