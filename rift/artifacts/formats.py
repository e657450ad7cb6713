"""The formats of artifacts: JSON, CSV, npz, npy and safetensors.

Each file contains its provenance and a digest of its content. Every reader checks the digest. The
digest does not cover the provenance, so that equal numbers have equal digests for all commits.
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

# The type is a string, so that the command line does not wait for the import of numpy.
Array: TypeAlias = "NDArray[Any]"

PROVENANCE, CONTENT = "provenance", "content"


def write_json(path: Path, content: Mapping[str, object], source: Provenance) -> None:
    """Write JSON values, with their provenance under the key ``provenance``.

    Raises:
        RiftError: the file cannot be written.
    """
    source = {**source, CONTENT: _digest_of_json(content)}
    write_text(path, json.dumps({**content, PROVENANCE: source}, indent=2) + "\n")


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
    values = {key: value for key, value in content.items() if key != PROVENANCE}
    _check(path, source, _digest_of_json(values))
    return content


def write_csv(path: Path, table: "pd.DataFrame", source: Provenance) -> None:
    """Write a table, with its provenance and its number of rows in a comment on the first line.

    Raises:
        RiftError: the file cannot be written.
    """
    body = table.to_csv(index=False)
    facts = {**source, "rows": len(table), CONTENT: _digest_of_text(body)}
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
    """Return the provenance of a table.

    Raises:
        RiftError: the file cannot be read or has no provenance.
    """

    def load() -> Provenance:
        with path.open(encoding="utf-8") as file:
            return dict(json.loads(file.readline().removeprefix("# ")))

    return reading(path, load)


def write_outcomes(path: Path, outcomes: Mapping[str, Array], source: Provenance) -> None:
    """Write outcomes: named boolean arrays, whose last axis is the index of the test image.

    Raises:
        RiftError: the file cannot be written.
    """
    import numpy as np

    facts = {**source, CONTENT: _digest_of_arrays(outcomes)}
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
    _check(path, read_origin(path), _digest_of_arrays(outcomes))
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

    return reading(path, load)


def write_arrays(
    path: Path, arrays: Mapping[str, Array], source: Provenance, **facts: object
) -> None:
    """Write named arrays as safetensors; ``facts`` are JSON values.

    Raises:
        RiftError: the file cannot be written.
    """
    from safetensors.numpy import save

    metadata = _metadata({name: _bytes_of(array) for name, array in arrays.items()}, source, facts)
    write_bytes(path, save(dict(arrays), metadata=metadata))


def read_arrays(
    path: Path, names: tuple[str, ...], facts: tuple[str, ...] = ()
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the named arrays and all facts of a safetensors file.

    Args:
        path: file to read.
        names: arrays to read; an empty tuple reads all.
        facts: facts that must exist.

    Raises:
        RiftError: the file cannot be read, is damaged, or lacks a named array or fact.
    """
    return _read_safetensors(path, "numpy", names, facts)


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


def write_weights(
    path: Path, state: Mapping[str, "torch.Tensor"], source: Provenance, **facts: object
) -> None:
    """Write a state dict as safetensors; ``facts`` are JSON values.

    Raises:
        RiftError: the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    metadata = _metadata(
        {name: _bytes_of(tensor) for name, tensor in tensors.items()}, source, facts
    )
    write_bytes(path, save(tensors, metadata=metadata))


def read_weights(
    path: Path, facts: tuple[str, ...] = ()
) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """Return the state dict and the facts of a safetensors file.

    Raises:
        RiftError: the file cannot be read, is damaged, or lacks a named fact.
    """
    return _read_safetensors(path, "pt", (), facts)


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a safetensors file, which include its provenance.

    Raises:
        RiftError: the file cannot be read.
    """
    from safetensors import safe_open

    def load() -> dict[str, Any]:
        with safe_open(path, framework="numpy") as content:
            return dict(json.loads((content.metadata() or {}).get("rift", "{}")))

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


def _metadata(
    contents: Mapping[str, memoryview], source: Provenance, facts: Mapping[str, object]
) -> dict[str, str]:
    """Return the metadata of a safetensors file.

    It has a single entry, because safetensors does not keep the order of several entries, and
    equal runs would differ in their bytes.
    """
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    whole = {**source, CONTENT: _digest_of_json(sums)}
    return {"rift": json.dumps({**facts, "sums": sums, PROVENANCE: whole}, sort_keys=True)}


def _read_safetensors(
    path: Path, framework: str, names: tuple[str, ...], needed: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import safe_open

    if path.is_file() and path.suffix != ".safetensors":
        raise RiftError(
            f"{path}: is not a .safetensors file of rift; import weights of other programs with"
            " rift import"
        )

    def load() -> tuple[dict[str, Any], dict[str, Any]]:
        with safe_open(path, framework=framework) as content:
            facts = json.loads((content.metadata() or {}).get("rift", "{}"))
            missing = [name for name in names if name not in set(content.keys())]
            missing += [name for name in needed if name not in facts]
            if missing:
                raise RiftError(
                    f"{path}: contains no {', '.join(missing)}; check that it is the right file,"
                    " and that this version of rift wrote it"
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
    """Check that the content has the digest that was recorded when it was written.

    Raises:
        RiftError: the digests differ.
    """
    if CONTENT in source and source[CONTENT] != found:
        raise _damaged(path)


def _damaged(path: Path) -> RiftError:
    return RiftError(
        f"{path}: is damaged: its content does not match its digest; delete it and run the stage"
        " that writes it"
    )
