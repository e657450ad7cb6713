"""Data sets by name.

A data set is a function of the data root that returns what is on disk (or in a package) as a ``Source``, and what
has been published of it. To add one: a file here, a line in ``DATASETS``, its name in
``rift.config.names.DatasetName``.
"""

from rift.config import DatasetName
from rift.data.corruptions.published import CIFAR10_C, CIFAR100_C, TINY_IMAGENET_C
from rift.data.sources.cifar import CIFAR10, CIFAR100, cifar
from rift.data.sources.digits import digits
from rift.data.sources.source import Dataset
from rift.data.sources.tiny_imagenet import ARCHIVE as TINY_IMAGENET
from rift.data.sources.tiny_imagenet import tiny_imagenet

DATASETS: dict[DatasetName, Dataset] = {
    "digits": Dataset(digits),
    "cifar10": Dataset(cifar(CIFAR10), CIFAR10.archive, CIFAR10_C),
    "cifar100": Dataset(cifar(CIFAR100), CIFAR100.archive, CIFAR100_C),
    "tiny-imagenet": Dataset(tiny_imagenet, TINY_IMAGENET, TINY_IMAGENET_C),
}
