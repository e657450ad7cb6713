"""The formats of artifacts: JSON, CSV, npz, npy and safetensors.

Each file contains its provenance and a digest of its content, which is checked whenever it is read. The digest leaves the
provenance out: equal numbers have equal digests, whichever commit computed them.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rift.artifacts.files import reading, replacing, write_bytes, write_text
from rift.artifacts.provenance import Provenance
from rift.errors import RiftError

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"  # as text: the command line need not wait for numpy

PROVENANCE, CONTENT = "provenance", "content"


def write_json(path: Path, content: Mapping[str, object], source: Provenance) -> None:
    """Write JSON values, with their provenance under the key ``provenance``."""
    source = {**source, CONTENT: _digest_of_json(content)}
    write_text(path, json.dumps({**content, PROVENANCE: source}, indent=2) + "\n")


def read_json(path: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a JSON artifact and make sure that it has these keys.

    Returns:
        Its values, and its provenance under the key ``provenance``.

    Raises:
        RiftError: it cannot be read, is damaged, or lacks a key.
    """
    content = reading(path, lambda: dict(json.loads(path.read_text(encoding="utf-8"))))
    missing = [key for key in keys if key not in content]
    if missing:
        raise RiftError(
            f"{path}: contains no {', '.join(missing)}; delete it and run the stage that writes it"
        )
    source = content.get(PROVENANCE, {})
    values = {key: value for key, value in content.items() if key != PROVENANCE}
    _check(path, source, _digest_of_json(values))
    return content


def write_csv(path: Path, table: "pd.DataFrame", source: Provenance) -> None:
    """Write a table; the comment in its first line is its provenance and its number of rows."""
    body = table.to_csv(index=False)
    facts = {**source, "rows": len(table), CONTENT: _digest_of_text(body)}
    write_text(path, f"# {json.dumps(facts, sort_keys=True)}\n{body}")


def read_csv(
    path: Path, columns: tuple[str, ...], may_lack: tuple[str, ...] = ()
) -> "pd.DataFrame":
    """Read a table and make sure that it has these columns.

    Args:
        path: of the file.
        columns: they must exist, without an empty cell.
        may_lack: they must exist, but may have empty cells.

    Raises:
        RiftError: it cannot be read, is damaged, or lacks a column.
    """
    import pandas as pd

    table = reading(path, lambda: pd.read_csv(path, comment="#"))
    missing = [column for column in (*columns, *may_lack) if column not in table]
    source = read_provenance(path)
    rows = source.get("rows")
    empty = not missing and bool(table[list(columns)].isna().to_numpy().any())
    if missing or table.empty or len(table) != rows or empty:
        problem = f"lacks the columns {', '.join(missing)}" if missing else "is not complete"
        counted = "" if missing else f": {rows} rows were written"
        raise RiftError(f"{path}: {problem}{counted}; delete it and run the stage that writes it")
    _, _, body = path.read_text(encoding="utf-8").partition("\n")
    _check(path, source, _digest_of_text(body))
    return table


def read_provenance(path: Path) -> Provenance:
    """Read the provenance of a table.

    Raises:
        RiftError: it cannot be read or has none.
    """

    def load() -> Provenance:
        with path.open(encoding="utf-8") as file:
            return dict(json.loads(file.readline().removeprefix("# ")))

    return reading(path, load)


def write_outcomes(path: Path, outcomes: Mapping[str, Array], source: Provenance) -> None:
    """Write outcomes: named boolean arrays whose last axis is the test image, from the first."""
    import numpy as np

    facts = {**source, CONTENT: _digest_of_arrays(outcomes)}
    arrays = {**outcomes, PROVENANCE: np.array(json.dumps(facts))}
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        # np.savez would write the time of day into each entry: equal runs would differ in their bytes.
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED)


def read_outcomes(path: Path) -> dict[str, Array]:
    """Read outcomes.

    Raises:
        RiftError: they cannot be read or are damaged.
    """
    import numpy as np

    def load() -> dict[str, Array]:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files if name != PROVENANCE}

    outcomes = reading(path, load)
    _check(path, read_origin(path), _digest_of_arrays(outcomes))
    return outcomes


def read_origin(path: Path) -> Provenance:
    """Read the provenance of outcomes, without the outcomes.

    Raises:
        RiftError: it cannot be read or has none.
    """
    import numpy as np

    def load() -> Provenance:
        with np.load(path, allow_pickle=False) as content:
            return dict(json.loads(str(content[PROVENANCE])))

    return reading(path, load)


def write_arrays(
    path: Path, arrays: Mapping[str, Array], source: Provenance, **facts: object
) -> None:
    """Write named arrays as safetensors; ``facts`` are JSON values."""
    from safetensors.numpy import save

    metadata = _metadata({name: _bytes_of(array) for name, array in arrays.items()}, source, facts)
    write_bytes(path, save(dict(arrays), metadata=metadata))


def read_arrays(
    path: Path, names: tuple[str, ...], facts: tuple[str, ...] = ()
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the named arrays and all facts of a safetensors file.

    Raises:
        RiftError: it cannot be read, is damaged, or lacks one of the arrays or facts named.
    """
    return _read_safetensors(path, "numpy", names, facts)


def write_array(path: Path, array: Array) -> None:
    """Write one array as ``.npy``."""
    import numpy as np

    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path) -> Array:
    """Read one array from ``.npy``; it stays on disk until it is used.

    Raises:
        RiftError: it cannot be read, or has been cut off.
    """
    import numpy as np

    def load() -> Array:
        array: Array = np.lib.format.open_memmap(path, mode="r")
        return array

    return reading(path, load)


def write_weights(
    path: Path, state: Mapping[str, "torch.Tensor"], source: Provenance, **facts: object
) -> None:
    """Write a state dict as safetensors; ``facts`` are JSON values."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    metadata = _metadata(
        {name: _bytes_of(tensor) for name, tensor in tensors.items()}, source, facts
    )
    write_bytes(path, save(tensors, metadata=metadata))


def read_weights(
    path: Path, facts: tuple[str, ...] = ()
) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """Read a state dict and the facts of a safetensors file.

    Raises:
        RiftError: it cannot be read, is damaged, or lacks one of the facts named.
    """
    return _read_safetensors(path, "pt", (), facts)


def read_facts(path: Path) -> dict[str, Any]:
    """Read the facts of a safetensors file, its provenance among them, without its arrays.

    Raises:
        RiftError: it cannot be read.
    """
    from safetensors import safe_open

    def load() -> dict[str, Any]:
        with safe_open(path, framework="numpy") as content:
            return dict(json.loads((content.metadata() or {}).get("rift", "{}")))

    return reading(path, load)


def content_digest(path: Path) -> str:
    """Return the digest of the content of a file: as recorded in an artifact, else of its bytes.

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
            recorded = None  # of another program, or damaged: its reader says so
        if isinstance(recorded, str):
            return recorded
    return reading(path, whole)


def _metadata(
    contents: Mapping[str, memoryview], source: Provenance, facts: Mapping[str, object]
) -> dict[str, str]:
    # One entry: safetensors writes several in an order of its own, and equal runs would differ.
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    whole = {**source, CONTENT: _digest_of_json(sums)}
    return {"rift": json.dumps({**facts, "sums": sums, PROVENANCE: whole}, sort_keys=True)}


def _read_safetensors(
    path: Path, framework: str, names: tuple[str, ...], needed: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import safe_open

    if path.is_file() and path.suffix != ".safetensors":
        raise RiftError(
            f"{path}: is not a .safetensors file of rift; weights from elsewhere go through rift import"
        )

    def load() -> tuple[dict[str, Any], dict[str, Any]]:
        with safe_open(path, framework=framework) as content:
            facts = json.loads((content.metadata() or {}).get("rift", "{}"))
            missing = [name for name in names if name not in set(content.keys())]
            missing += [name for name in needed if name not in facts]
            if missing:
                raise RiftError(
                    f"{path}: contains no {', '.join(missing)}; is it the right file, and written by"
                    " this version?"
                )
            return {name: content.get_tensor(name) for name in names or content.keys()}, facts

    arrays, facts = reading(path, load)
    sums = facts.get("sums", {})
    for name, array in arrays.items():
        if name in sums and hashlib.sha256(_bytes_of(array)).hexdigest() != sums[name]:
            raise _damaged(path)
    return arrays, facts


def _bytes_of(array: "Array | torch.Tensor") -> memoryview:
    """Return the bytes of an array or tensor in row-major order."""
    import numpy as np

    if not isinstance(array, np.ndarray):
        import torch

        array = array.contiguous().reshape(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _digest_of_arrays(arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(_bytes_of(array))
    return digest.hexdigest()


def _digest_of_json(values: Mapping[str, object]) -> str:
    return _digest_of_text(json.dumps(values, sort_keys=True))


def _digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check(path: Path, source: Mapping[str, Any], found: str) -> None:
    """Make sure that the content is what was written.

    Raises:
        RiftError: it is not.
    """
    if CONTENT in source and source[CONTENT] != found:
        raise _damaged(path)


def _damaged(path: Path) -> RiftError:
    return RiftError(
        f"{path}: is damaged: its content is not what was written; delete it and run the stage that"
        " writes it"
    )
