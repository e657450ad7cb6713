"""A data set cut into splits: the form in which every stage reads it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rift.artifacts import Array, Provenance, read_arrays, read_facts, write_arrays
from rift.config import Data, DatasetName
from rift.data.sources import DATASETS
from rift.data.sources.download import obtain
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
        images: by split, uint8, N×C×H×W.
        labels: by split, int64, N, in 0 … len(classes) - 1.
        classes: names of the classes in the order of their labels.
        mean: of each channel over the training split, images in [0, 1].
        std: standard deviation of each channel, likewise.
        facts: name, checksums of the source files, split seed, and counts.
    """

    images: dict[str, Array]
    labels: dict[str, Array]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        """Side of the images in pixels; all are square."""
        return int(next(iter(self.images.values())).shape[-1])

    def split(self, name: str, device: "str | torch.device" = "cpu") -> "Images":
        """Return the images of a split, on a device."""
        from rift.data.images import Images

        return Images.of(self.images[name], self.labels[name], device=device)


def prepare(name: DatasetName, settings: Data, progress: Progress = no_progress) -> Prepared:
    """Read a data set, download it first if it is not there, and cut it into training, validation and test split.

    The official test split stays whole; where there is none, a share is cut from the images first. The validation split
    is cut from what is left for training. Both cuts are stratified by class and depend on nothing but the seed; with
    ``cut: last`` the validation split is the last images instead, for bases that were trained on all before them.
    """
    dataset = DATASETS[name]
    if dataset.archive is not None:
        obtain(settings.folder, dataset.archive, progress)
    source = dataset.read(settings.folder)
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
                f"data.cut: last: the last images of {name} are not of every class; say stratified"
            )
    else:
        _cut(images, labels, "validation", settings.validation, rng)

    # From the histogram of each channel: exact, and without a copy of the images in floating point.
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
    """Share of each of the 256 levels, a thousand images at a time: bincount makes 64 bits of every pixel."""
    parts = (channel[start : start + 1000] for start in range(0, len(channel), 1000))
    counts = sum(np.bincount(part.ravel(), minlength=256) for part in parts)
    return np.asarray(counts / channel.size)


def _cut(
    images: dict[str, Array],
    labels: dict[str, Array],
    split: str,
    share: float,
    rng: np.random.Generator,
) -> None:
    """Move a share of every class, drawn at random, from the training split to ``split``."""
    taken = np.zeros(len(labels["train"]), dtype=bool)
    for label in np.unique(labels["train"]):
        members = np.flatnonzero(labels["train"] == label)
        taken[rng.choice(members, size=max(1, round(share * len(members))), replace=False)] = True
    _move(images, labels, split, taken)


def _last(count: int, share: float) -> Array:
    return np.arange(count) >= count - max(1, round(share * count))


def _move(images: dict[str, Array], labels: dict[str, Array], split: str, taken: Array) -> None:
    """Move the images taken from the training split to ``split``, both in their old order."""
    images[split], labels[split] = images["train"][taken], labels["train"][taken]
    images["train"], labels["train"] = images["train"][~taken], labels["train"][~taken]


def save(path: Path, prepared: Prepared, source: Provenance) -> None:
    """Write a prepared set as safetensors: ``{split}_images`` and ``{split}_labels``."""
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
    """Read the named splits of a prepared set.

    Raises:
        RiftError: the file cannot be read or is no prepared set.
    """
    names = tuple(f"{split}_{kind}" for split in splits for kind in ("images", "labels"))
    arrays, facts = read_arrays(path, names, ("classes", "mean", "std", "facts"))
    return Prepared(
        {split: arrays[f"{split}_images"] for split in splits},
        {split: arrays[f"{split}_labels"] for split in splits},
        tuple(facts["classes"]),
        tuple(facts["mean"]),
        tuple(facts["std"]),
        facts["facts"],
    )


def test_set_digest(path: Path) -> str:
    """Tell the test images of a prepared set from those of any other, by a digest of where they are from and how they were cut.

    Raises:
        RiftError: the file cannot be read.
    """
    facts = read_facts(path).get("facts", {})
    from_where = {key: facts.get(key) for key in ("dataset", "sources", "split_seed")}
    text = json.dumps(
        {**from_where, "images_per_class": facts.get("images_per_class", {}).get("test")},
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
