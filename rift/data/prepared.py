"""A data set cut into splits, as every stage reads it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rift.artifacts import Array, Provenance, read_arrays, read_facts, write_arrays
from rift.config import Data, Dataset
from rift.data.memory import chosen_images, is_mapped, limit, parts_of
from rift.data.sources.download import obtain
from rift.data.sources.named import dataset_named
from rift.data.sources.ranges import only_named_classes
from rift.errors import RiftError
from rift.progress import Progress, no_progress

if TYPE_CHECKING:
    import torch

    from rift.data.images import Images

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Prepared:
    """A data set cut into splits.

    Attributes:
        images: images by split: uint8, N×C×H×W.
        labels: labels by split: int64, N, in 0 … len(classes) - 1.
        classes: names of the classes, in the order of their labels.
        mean: mean of each channel over the training split, for images in [0, 1].
        std: standard deviation of each channel, likewise.
        facts: name of the data set, checksums of the source files, split seed, and images per
            class of every split.
    """

    images: dict[str, Array]
    labels: dict[str, Array]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        """Return the side of the images in pixels; all are square."""
        return int(next(iter(self.images.values())).shape[-1])

    def split(self, name: str, device: "str | torch.device" = "cpu") -> "Images":
        """Return the images and labels of a split, on a device.

        Images of a memory map are read from their file whenever they are needed.
        """
        from rift.data.images import Images

        kind = Images.mapped if is_mapped(self.images[name]) else Images.of
        return kind(self.images[name], self.labels[name], device=device)


def prepare(name: Dataset, settings: Data, progress: Progress = no_progress) -> Prepared:
    """Read a data set, and cut it into a training, a validation and a test split.

    A missing data set is downloaded first. The official test split stays whole; if there is none, a
    share of the images is cut off for it. The validation split is cut from the remaining training
    images. Both cuts are stratified by class and depend only on the seed. With ``cut: last``, the
    validation split is the last training images instead, for bases that were trained on all images
    before them.

    Args:
        name: name of a data set, or a range of its classes (``digits-0-4``),
            which is cut as a data set of its own.
        settings: data root, seed, kind of cut, and shares of the splits.
        progress: called during the download.

    Raises:
        RiftError: the data set is missing, damaged, or cannot be downloaded; it does not contain
            the range of classes; or a class has too few images for every split.
    """
    dataset = dataset_named(name)
    if dataset.archive is not None:
        obtain(settings.folder, dataset.archive, progress)
    source = only_named_classes(dataset.source(settings.folder, settings.side), name)
    rng = np.random.default_rng(settings.seed)
    images, labels = {"train": source.images}, {"train": source.labels}
    if source.test_images is None or source.test_labels is None:
        _cut(images, labels, "test", settings.test, rng)
    else:
        images["test"], labels["test"] = source.test_images, source.test_labels
    if settings.cut == "last":
        _move(images, labels, "validation", _last(len(labels["train"]), settings.validation))
        if any(
            set(labels[split]) != set(range(len(source.classes)))
            for split in ("train", "validation")
        ):
            raise RiftError(
                f"data.cut: last: the last images of {name} do not contain every class; set"
                " data.cut: stratified"
            )
    else:
        _cut(images, labels, "validation", settings.validation, rng)
    for label, count in enumerate(np.bincount(labels["train"], minlength=len(source.classes))):
        if count == 0:
            raise RiftError(
                f"{name}: class {source.classes[label]} has too few images, so none is left for"
                " training; give every class at least three images, or two and test images of its"
                " own"
            )

    # The histogram of each channel gives exact moments, without a float copy of the images.
    levels = np.arange(256) / 255
    shares = np.stack([_histogram(channel) for channel in np.moveaxis(images["train"], 1, 0)])
    mean = shares @ levels
    std = np.sqrt(shares @ levels**2 - mean**2)
    counts = {
        split: np.bincount(labels[split], minlength=len(source.classes)).tolist()
        for split in SPLITS
    }
    return Prepared(
        images,
        labels,
        source.classes,
        tuple(mean.round(6).tolist()),
        tuple(std.round(6).tolist()),
        {
            "dataset": name,
            "sources": source.checksums,
            "split_seed": settings.seed,
            "images_per_class": counts,
        },
    )


def _histogram(channel: Array) -> Array:
    """Return the share of each of the 256 levels in a channel (uint8, N×H×W)."""
    # Some images at a time, because bincount converts every pixel to 64 bits.
    parts = (channel[part].ravel() for part in parts_of(channel))
    counts = sum(np.bincount(part, minlength=256) for part in parts)
    return np.asarray(counts / channel.size)


def _cut(
    images: dict[str, Array],
    labels: dict[str, Array],
    split: str,
    share: float,
    rng: np.random.Generator,
) -> None:
    """Move a random share of every class from the training split to ``split``."""
    taken = np.zeros(len(labels["train"]), dtype=bool)
    for label in np.unique(labels["train"]):
        members = np.flatnonzero(labels["train"] == label)
        taken[rng.choice(members, size=max(1, round(share * len(members))), replace=False)] = True
    _move(images, labels, split, taken)


def _last(count: int, share: float) -> Array:
    """Return a mask, bool, ``count``, that selects the last share of the images."""
    return np.arange(count) >= count - max(1, round(share * count))


def _move(images: dict[str, Array], labels: dict[str, Array], split: str, taken: Array) -> None:
    """Move the images that ``taken`` selects from the training split to ``split``, in order."""
    images[split], labels[split] = chosen_images(images["train"], taken), labels["train"][taken]
    images["train"] = chosen_images(images["train"], ~taken)
    labels["train"] = labels["train"][~taken]


def save(path: Path, prepared: Prepared, source: Provenance) -> None:
    """Write a prepared set as safetensors, with arrays ``{split}_images`` and ``{split}_labels``.

    Raises:
        RiftError: the file cannot be written.
    """
    arrays = {f"{split}_images": np.ascontiguousarray(prepared.images[split]) for split in SPLITS}
    arrays |= {f"{split}_labels": prepared.labels[split] for split in SPLITS}
    facts = {
        "classes": prepared.classes,
        "mean": prepared.mean,
        "std": prepared.std,
        "facts": prepared.facts,
    }
    write_arrays(path, arrays, source, **facts)


def load(path: Path, splits: tuple[str, ...] = SPLITS) -> Prepared:
    """Read splits of a prepared set; images above ``rift.data.memory.limit`` are memory maps.

    Raises:
        RiftError: the file cannot be read, or is not a prepared set.
    """
    names = tuple(f"{split}_{kind}" for split in splits for kind in ("images", "labels"))
    arrays, facts = read_arrays(path, names, ("classes", "mean", "std", "facts"), limit())
    _check_types(path, arrays, facts)
    return Prepared(
        {split: arrays[f"{split}_images"] for split in splits},
        {split: np.array(arrays[f"{split}_labels"]) for split in splits},
        tuple(facts["classes"]),
        tuple(facts["mean"]),
        tuple(facts["std"]),
        facts["facts"],
    )


def _check_types(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Check that arrays and facts have the types that ``save`` writes.

    Raises:
        RiftError: one of them has another type or shape.
    """
    lists = ("classes", "mean", "std")
    wrong = [name for name in lists if not (isinstance(facts[name], list) and facts[name])]
    wrong += [
        name
        for name in ("mean", "std")
        if name not in wrong and not all(isinstance(value, int | float) for value in facts[name])
    ]
    wrong += [] if isinstance(facts["facts"], dict) else ["facts"]
    for name, array in arrays.items():
        images = name.endswith("_images")
        if (array.dtype.name, array.ndim) != (("uint8", 4) if images else ("int64", 1)):
            wrong.append(name)
    if wrong:
        raise RiftError(
            f"{path}: is no prepared set: {wrong[0]} has another type; run rift prepare again"
        )


def test_set_digest(path: Path) -> str:
    """Return a digest that identifies the test images of a prepared set, 16 hexadecimal digits.

    It covers the source of the images and the way that they were cut.

    Raises:
        RiftError: the file cannot be read.
    """
    facts = read_facts(path).get("facts", {})
    origin = {key: facts.get(key) for key in ("dataset", "sources", "split_seed")}
    text = json.dumps(
        {**origin, "images_per_class": facts.get("images_per_class", {}).get("test")},
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
