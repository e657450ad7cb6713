"""The experiment file of results, as a copy beside them.

A workflow writes the copy when it starts. It contains what Snakemake was given, so also the values
of ``--config``, and reads back as the same experiment.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml

from rift import config
from rift.artifacts import write_text
from rift.config import Experiment
from rift.errors import RiftError
from rift.layout import CONFIGURATION


def record_experiment(folder: Path, content: Mapping[str, object]) -> None:
    """Write the content of an experiment file to the folder of its results, unless it is there.

    Args:
        folder: folder of the experiment, ``results/NAME``.
        content: content of the experiment file.

    Raises:
        RiftError: the file cannot be written.
    """
    path = folder / CONFIGURATION
    text = yaml.safe_dump(_plain(content), sort_keys=False, allow_unicode=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def recorded_experiment(folder: Path) -> Experiment | None:
    """Return the experiment that results were made from; None if it was not recorded.

    Raises:
        RiftError: the copy is damaged.
    """
    path = folder / CONFIGURATION
    return config.read(path) if path.is_file() else None


def experiment_of(folder: Path) -> Experiment:
    """Return the experiment that results were made from.

    Raises:
        RiftError: it was not recorded, or the copy is damaged.
    """
    experiment = recorded_experiment(folder)
    if experiment is None:
        raise RiftError(
            f"{folder}: contains no {CONFIGURATION}; give the folder of an experiment"
            f" (results/NAME), and copy its experiment file to {folder / CONFIGURATION} if an"
            " earlier version of rift made it"
        )
    return experiment


def _plain(value: object) -> object:
    """Return a value of plain dicts, lists and scalars: Snakemake has dicts of its own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
