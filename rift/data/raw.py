"""Raw files of data sets, and what was made from files that have changed since.

``rift prepare`` and ``rift corrupt`` record a digest of the raw files that they read. A workflow
compares these digests when it starts. The content counts, not the date.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from rift.artifacts import read_json, write_text
from rift.config import Corrupt, CorruptionName, Dataset, Experiment
from rift.data.sources.named import dataset_named
from rift.data.sources.source import sha256
from rift.errors import RiftError
from rift.layout import corrupted, manifest, prepared

RAW = "raw"
"""Key of the digest in the files that record it."""


def raw_files(name: Dataset, root: Path) -> list[Path]:
    """Return the files and folders below the data root that a data set is read from.

    The list is empty for a data set that a package contains.
    """
    return [root / path for path in dataset_named(name).raw]


def raw_corrupted_files(
    name: Dataset, corruption: CorruptionName, settings: Corrupt, root: Path
) -> list[Path]:
    """Return the published files that corrupted images are read from.

    The list is empty if the images are generated.
    """
    published = dataset_named(name).corrupted
    if published is None or settings.source == "generated":
        return []
    found = published.find(root, corruption)
    return [] if found is None else [found, found.with_name("labels.npy")]


class RawDigests:
    """Digests of raw files, with a file that remembers those of files that have not changed.

    Attributes:
        memory: file that remembers digests; None to compute each one.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self.memory = memory
        self._known: dict[str, Any] = {}
        if memory is not None:
            with suppress(OSError, ValueError):
                self._known = dict(json.loads(memory.read_text(encoding="utf-8")))

    def __call__(self, paths: Iterable[Path]) -> str | None:
        """Return the digest of names and contents of files, and of all files in folders.

        Hidden files and paths that do not exist do not count. Without any file, the digest is None.
        """
        given = [path for path in paths if path.exists()]
        files = {
            file: f"{number}/{file.relative_to(path).as_posix()}"
            for number, path in enumerate(given)
            for file in _files_in(path)
        }
        if not files:
            return None
        states = [(name, *_state(file)) for file, name in files.items()]
        place = " ".join(str(path.absolute()) for path in given)
        state = hashlib.sha256(json.dumps(states).encode()).hexdigest()
        known = self._known.get(place, {})
        if known.get("state") == state:
            return str(known["digest"])
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            contents = list(pool.map(sha256, files))
        lines = json.dumps(list(zip(files.values(), contents, strict=True)))
        digest = hashlib.sha256(lines.encode()).hexdigest()
        self._known[place] = {"state": state, "digest": digest}
        if self.memory is not None:
            with suppress(RiftError, OSError):
                self.memory.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.memory, json.dumps(self._known))
        return digest


def _files_in(path: Path) -> list[Path]:
    """Return the file, or all files below the folder in a fixed order."""
    if not path.is_dir():
        return [path]
    return sorted(
        Path(folder, name)
        for folder, _, names in os.walk(path, followlinks=True)
        for name in names
        if not name.startswith(".")
    )


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def stale_data(experiment: Experiment, folder: Path, memory: Path) -> dict[str, str]:
    """Return the data files whose raw files have changed since, each with the reason.

    Files of earlier versions record no digest. They and sets whose raw files are gone are left
    alone.

    Args:
        experiment: the experiment.
        folder: its folder, ``results/NAME``.
        memory: file that remembers digests between two calls.
    """
    digests, root = RawDigests(memory), experiment.data.folder
    stale: dict[str, str] = {}

    def compare(record: Path, made: str, files: list[Path], what: str) -> None:
        recorded = _recorded(record)
        if RAW in recorded and digests(files) not in (None, recorded[RAW]):
            stale[str(folder / made)] = f"{what} has changed since"

    for dataset in experiment.datasets:
        compare(folder / manifest(dataset), prepared(dataset), raw_files(dataset, root), dataset)
        settings = experiment.settings(dataset).corrupt
        for name in experiment.corruptions(dataset):
            images = corrupted(dataset, name)
            compare(
                (folder / images).with_suffix(".json"),
                images,
                raw_corrupted_files(dataset, name, settings, root),
                f"the published set of {dataset} with {name}",
            )
    return stale


def _recorded(path: Path) -> dict[str, Any]:
    """Return the facts that a file records; none if it is missing or damaged."""
    try:
        return read_json(path) if path.is_file() else {}
    except RiftError:
        return {}
