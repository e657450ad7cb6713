"""The first number that differs between two folders of results.

Everything counts except times: the speed in histories of trainings, and the table of costs.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rift import layout
from rift.artifacts import (
    FORMATS,
    Array,
    read_array,
    read_csv,
    read_json,
    read_outcomes,
    read_weights,
    reading,
)
from rift.errors import RiftError
from rift.lineage.inputs import artifact_files

TIMES = ("images_per_second", "seconds")
COST = layout.table("cost", "csv")

# Files in the order in which an experiment makes them, by the ends of their paths: the first one
# that differs is the cause, and the others may be its consequences.
_ORDER = (
    "data/*/prepared.safetensors",
    "data/*/manifest.json",
    "data/*/corrupted/*",
    "runs/*/*/*/*/training.csv",
    "runs/*/*/*/*/imported.json",
    "runs/*/*/*/*/base.safetensors",
    "transfers/*/*/*/*/training.csv",
    "transfers/*/*/*/*/base.safetensors",
    "*/criticality.csv",
    "*/finetuning.csv",
    "*/finetuned.safetensors",
    "*/sweep.csv",
    "*/selection.json",
    "*/selected.safetensors",
    "evaluation/*/*",
    "tables/*",
)


class Difference(NamedTuple):
    """A file that differs, and the first of its values that does.

    Attributes:
        path: path below the folder of the experiment.
        text: where in the file, and both values; or why it cannot be compared.
    """

    path: str
    text: str


def compare(results: Path, again: Path) -> tuple[list[Difference], int]:
    """Compare all numbers of two folders of results.

    Args:
        results: the folder whose numbers should be confirmed.
        again: the folder with the same experiment, computed again.

    Returns:
        A difference per file that differs, in the order in which an experiment makes files, and the
        number of compared files.
    """
    names = sorted({*_files(results), *_files(again)}, key=lambda name: (_rank(name), name))
    found = [(name, _first_difference(results / name, again / name)) for name in names]
    return [Difference(name, text) for name, text in found if text], len(names)


def _files(folder: Path) -> Iterator[str]:
    tables = sorted((folder / "tables").glob("*.csv"))
    for path in (*artifact_files(folder), *tables):
        name = path.relative_to(folder).as_posix()
        temporary = path.parent.name in ("criticality", "adversarial")
        if name != COST and path.suffix in FORMATS and not temporary:
            yield name


def _rank(name: str) -> int:
    path = Path(name)
    return next((rank for rank, form in enumerate(_ORDER) if path.match(form)), len(_ORDER))


def _first_difference(path: Path, again: Path) -> str:
    """Return the first difference between two files; an empty text if there is none."""
    for file, where in ((path, "in the results"), (again, "in the new run")):
        if not file.is_file():
            return f"is missing {where}"
    values: list[dict[str, Array]] = []
    for file in (path, again):
        try:
            values.append(_arrays(file))
        except RiftError as error:
            return str(error).removeprefix(f"{file}: ")
    before, now = values
    for name in dict.fromkeys((*before, *now)):
        if name not in before or name not in now:
            return f"{name} exists only {'in the results' if name in before else 'in the new run'}"
        text = _first_value(name, before[name], now[name])
        if text:
            return text
    return ""


def _arrays(path: Path) -> dict[str, Array]:
    """Return the numbers of an artifact by name.

    Raises:
        RiftError: it cannot be read, or is damaged.
    """
    match path.suffix:
        case ".safetensors":
            import torch

            weights, _ = read_weights(path)
            # numpy has no bfloat16, and every value of it is one of float32.
            return {
                name: (each.float() if each.dtype == torch.bfloat16 else each).numpy()
                for name, each in sorted(weights.items())
            }
        case ".npz":
            return read_outcomes(path)
        case ".npy":
            return {"images": read_array(path)}
        case ".csv":
            table = _table(path).drop(columns=list(TIMES), errors="ignore")
            return {str(column): table[column].to_numpy() for column in table}
        case _:
            content = read_json(path)
            content.pop("provenance", None)
            return {name: np.array(value, dtype=object) for name, value in _leaves(content)}


def _table(path: Path) -> pd.DataFrame:
    """Return a table of the report, which has no comment, or one of a stage."""
    if path.parent.name != "tables":
        return read_csv(path, ())
    # Numbers are compared as they are written.
    return reading(path, lambda: pd.read_csv(path, dtype=str, keep_default_na=False))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield the scalars in JSON values, with their dotted names."""
    if isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, each in items:
            yield from _leaves(each, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _first_value(name: str, before: Array, now: Array) -> str:
    """Return the first differing value of two arrays; an empty text if all are equal."""
    if before.shape != now.shape or before.dtype != now.dtype:
        return (
            f"{name} is {before.dtype} {before.shape} in the results and {now.dtype} {now.shape} in"
            " the new run"
        )
    differs = before != now
    if before.ndim and before.dtype.kind in "fO":
        differs &= ~(pd.isna(before) & pd.isna(now))
    places = np.argwhere(differs)
    if not len(places):
        return ""
    place = tuple(int(index) for index in places[0])
    where = f"{name}[{', '.join(map(str, place))}]" if place else name
    return f"{where} is {before[place]} in the results and {now[place]} in the new run"
