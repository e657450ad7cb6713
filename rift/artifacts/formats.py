"""The formats of artifacts: JSON, CSV, npz and npy; ``tensors.py`` has safetensors.

Each file contains its provenance and the digests of ``digests.py``, which every reader checks. An
npy file contains nothing but its array; the JSON file next to it has the digests.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rift.artifacts.digests import (
    CONTENT,
    PROVENANCE,
    Array,
    check_content,
    check_provenance,
    damaged,
    digest_of_arrays,
    digest_of_json,
    digest_of_text,
    sealed,
)
from rift.artifacts.files import reading, replacing, write_text
from rift.artifacts.provenance import Provenance
from rift.artifacts.tensors import read_facts
from rift.errors import RiftError

if TYPE_CHECKING:
    import pandas as pd


OUTCOMES = "outcomes"


def write_json(path: Path, content: Mapping[str, object], source: Provenance) -> None:
    """Write JSON values, with their provenance under the key ``provenance``.

    Raises:
        RiftError: the file cannot be written.
    """
    whole = sealed(source, digest_of_json(content))
    write_text(path, json.dumps({**content, PROVENANCE: whole}, indent=2) + "\n")


def read_json(path: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the values of a JSON artifact, with its provenance under the key ``provenance``.

    Args:
        path: file to read.
        keys: keys that must exist.

    Raises:
        RiftError: the file cannot be read, is damaged, or lacks a key.
    """
    content = reading(path, lambda: dict(json.loads(path.read_text(encoding="utf-8"))))
    missing = [key for key in keys if key not in content]
    if missing:
        raise RiftError(
            f"{path}: contains no {', '.join(missing)}; delete it and run the stage that writes it"
        )
    source = content.get(PROVENANCE, {})
    if not isinstance(source, dict):
        raise damaged(path)
    values = {key: value for key, value in content.items() if key != PROVENANCE}
    check_provenance(path, source)
    check_content(path, source, digest_of_json(values))
    return content


def write_csv(path: Path, table: "pd.DataFrame", source: Provenance) -> None:
    """Write a table, with its provenance and its number of rows in a comment on the first line.

    Raises:
        RiftError: the file cannot be written.
    """
    body = table.to_csv(index=False)
    facts = sealed({**source, "rows": len(table)}, digest_of_text(body))
    write_text(path, f"# {json.dumps(facts, sort_keys=True)}\n{body}")


def read_csv(
    path: Path, columns: tuple[str, ...], may_lack: tuple[str, ...] = ()
) -> "pd.DataFrame":
    """Return a table, and check its columns, number of rows and digest.

    Args:
        path: file to read.
        columns: columns that must exist, without an empty cell.
        may_lack: columns that must exist, but may have empty cells.

    Raises:
        RiftError: the file cannot be read, is damaged or incomplete, or lacks a column.
    """
    import pandas as pd

    # A module of a Sequential may be named 0 or 1.10, which are no numbers.
    table = reading(path, lambda: pd.read_csv(path, comment="#", dtype={"module": "str"}))
    missing = [column for column in (*columns, *may_lack) if column not in table]
    source = read_provenance(path)
    rows = source.get("rows")
    empty = not missing and bool(table[list(columns)].isna().to_numpy().any())
    if missing or table.empty or len(table) != rows or empty:
        problem = f"lacks the columns {', '.join(missing)}" if missing else "is not complete"
        counted = "" if missing else f": {rows} rows were written"
        raise RiftError(f"{path}: {problem}{counted}; delete it and run the stage that writes it")
    _, _, body = path.read_text(encoding="utf-8").partition("\n")
    check_content(path, source, digest_of_text(body))
    return table


def read_provenance(path: Path) -> Provenance:
    """Return the provenance of a table.

    Raises:
        RiftError: the file cannot be read or has no provenance.
    """

    def load() -> Provenance:
        with path.open(encoding="utf-8") as file:
            return dict(json.loads(file.readline().removeprefix("# ")))

    source = reading(path, load)
    check_provenance(path, source)
    return source


def write_outcomes(path: Path, outcomes: Mapping[str, Array], source: Provenance) -> Provenance:
    """Write outcomes: named boolean arrays, whose last axis is the index of the test image.

    Returns:
        The provenance for the summary of these outcomes. It contains their digest under the key
        ``outcomes``, so that a reader of both sees whether they belong together.

    Raises:
        RiftError: the file cannot be written.
    """
    import numpy as np

    facts = sealed(source, digest_of_arrays(outcomes))
    arrays = {**outcomes, PROVENANCE: np.array(json.dumps(facts))}
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        # np.savez writes the time into each entry, so that equal runs would differ in their bytes.
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED)
    return {**source, OUTCOMES: facts[CONTENT]}


def read_outcomes(path: Path) -> dict[str, Array]:
    """Return the outcomes in a file, by name.

    Raises:
        RiftError: the file cannot be read or is damaged.
    """
    import numpy as np

    def load() -> dict[str, Array]:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files if name != PROVENANCE}

    outcomes = reading(path, load)
    check_content(path, read_origin(path), digest_of_arrays(outcomes))
    return outcomes


def read_origin(path: Path) -> Provenance:
    """Return the provenance of outcomes, without reading the outcomes themselves.

    Raises:
        RiftError: the file cannot be read or has no provenance.
    """
    import numpy as np

    def load() -> Provenance:
        with np.load(path, allow_pickle=False) as content:
            return dict(json.loads(str(content[PROVENANCE])))

    source = reading(path, load)
    check_provenance(path, source)
    return source


def write_array(path: Path, array: Array) -> None:
    """Write one array as ``.npy``.

    Raises:
        RiftError: the file cannot be written.
    """
    import numpy as np

    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path) -> Array:
    """Return one array from ``.npy`` as a memory map, which is read from disk when it is used.

    Raises:
        RiftError: the file cannot be read or is truncated.
    """
    import numpy as np

    def load() -> Array:
        array: Array = np.lib.format.open_memmap(path, mode="r")
        return array

    return reading(path, load)


def content_digest(path: Path) -> str:
    """Return the digest of the content of a file.

    An artifact records this digest. For other files, it is the digest of the bytes.

    Raises:
        RiftError: the file cannot be read.
    """

    def whole() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    readers: dict[str, Callable[[], Provenance]] = {
        ".safetensors": lambda: read_facts(path).get(PROVENANCE, {}),
        ".json": lambda: json.loads(path.read_text(encoding="utf-8")).get(PROVENANCE, {}),
        ".csv": lambda: read_provenance(path),
        ".npz": lambda: read_origin(path),
    }
    if path.suffix in readers and path.is_file():
        try:
            source: Provenance = readers[path.suffix]()
            recorded = source.get(CONTENT)
        except (RiftError, ValueError, AttributeError):
            # The file is of another program, or is damaged. The stage that reads it reports this.
            recorded = None
        if isinstance(recorded, str):
            return recorded
    return reading(path, whole)
