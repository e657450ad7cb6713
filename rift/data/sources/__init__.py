"""Data sets by name.

A data set is a function that reads a ``Source`` from the data root (or from a package), with its
published archive and its published corrupted test split, if any. To add one, add a file here, a
line in ``DATASETS``, and its name in ``rift.config.names.DatasetName``.
"""

from rift.config import DatasetName
from rift.data.corruptions.published import CIFAR10_C, CIFAR100_C, TINY_IMAGENET_C
from rift.data.sources.caltech256 import FOLDER as CALTECH256
from rift.data.sources.caltech256 import caltech256
from rift.data.sources.cifar import CIFAR10, CIFAR100, cifar
from rift.data.sources.cub200 import FOLDER as CUB200
from rift.data.sources.cub200 import cub200
from rift.data.sources.digits import digits
from rift.data.sources.source import Dataset
from rift.data.sources.stanford_dogs import FOLDER as STANFORD_DOGS
from rift.data.sources.stanford_dogs import stanford_dogs
from rift.data.sources.tiny_imagenet import ARCHIVE as TINY_IMAGENET
from rift.data.sources.tiny_imagenet import RAW, tiny_imagenet

DATASETS: dict[DatasetName, Dataset] = {
    "digits": Dataset(digits),
    "cifar10": Dataset(cifar(CIFAR10), CIFAR10.archive, CIFAR10_C, CIFAR10.raw),
    "cifar100": Dataset(cifar(CIFAR100), CIFAR100.archive, CIFAR100_C, CIFAR100.raw),
    "tiny-imagenet": Dataset(tiny_imagenet, TINY_IMAGENET, TINY_IMAGENET_C, RAW),
    "caltech-256": Dataset(caltech256, raw=(CALTECH256,), any_size=True),
    "cub-200": Dataset(cub200, raw=(CUB200,), any_size=True),
    "stanford-dogs": Dataset(stanford_dogs, raw=(STANFORD_DOGS,), any_size=True),
}
