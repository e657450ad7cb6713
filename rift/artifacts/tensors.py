"""Safetensors: weights, prepared image sets and raw results, with facts in their metadata.

The metadata contains a digest of every array. Readers check those that they read, so that one split
of a data set is read without the others.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rift.artifacts.digests import (
    PROVENANCE,
    Array,
    bytes_of,
    check_provenance,
    damaged,
    digest_of_json,
    sealed,
)
from rift.artifacts.files import reading, replacing, write_bytes
from rift.artifacts.provenance import Provenance
from rift.errors import RiftError

if TYPE_CHECKING:
    import torch

SUMS = "sums"


def write_arrays(
    path: Path, arrays: Mapping[str, Array], source: Provenance, **facts: object
) -> None:
    """Write named arrays as safetensors; ``facts`` are JSON values.

    Raises:
        RiftError: the file cannot be written.
    """
    contents = {name: bytes_of(array) for name, array in arrays.items()}
    # safetensors would copy all arrays into memory first.
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_header(arrays, _metadata(contents, source, facts)))
        for name in _ordered(arrays):
            file.write(contents[name])


def read_arrays(
    path: Path,
    names: tuple[str, ...],
    facts: tuple[str, ...] = (),
    mapped_above: int | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the named arrays and all facts of a safetensors file.

    Args:
        path: file to read.
        names: arrays to read; an empty tuple reads all.
        facts: facts that must exist.
        mapped_above: size in bytes above which an array is a memory map, which cannot be written
            to; None reads all arrays into memory.

    Raises:
        RiftError: the file cannot be read, is damaged, or lacks a named array or fact.
    """
    return _read_safetensors(path, "numpy", names, facts, mapped_above)


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
        {name: bytes_of(tensor) for name, tensor in tensors.items()}, source, facts
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
            return _facts_in(content.metadata())

    return _checked(path, reading(path, load))


TYPES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""Names of types in safetensors, in the order of their arrays in a file."""


def _ordered(arrays: Mapping[str, Array]) -> list[str]:
    """Return the names of arrays in the order in which safetensors writes them."""
    order = list(TYPES)
    return sorted(arrays, key=lambda name: (order.index(arrays[name].dtype.name), name))


def _header(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Return the begin of a safetensors file, with the bytes that safetensors itself writes."""
    described: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name in _ordered(arrays):
        array = arrays[name]
        start, end = end, end + array.nbytes
        described[name] = {
            "dtype": TYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _mapped(path: Path, names: Collection[str], above: int) -> dict[str, Array]:
    """Return the named arrays of a safetensors file with more bytes than ``above``, as maps."""
    import numpy as np

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        described = json.loads(file.read(length))
    long_names = {short: long for long, short in TYPES.items()}
    found: dict[str, Array] = {}
    for name in names:
        start, end = described[name]["data_offsets"]
        if end - start > above:
            kind, shape = long_names[described[name]["dtype"]], tuple(described[name]["shape"])
            found[name] = np.memmap(path, kind, mode="r", offset=8 + length + start, shape=shape)
    return found


def _metadata(
    contents: Mapping[str, memoryview], source: Provenance, facts: Mapping[str, object]
) -> dict[str, str]:
    """Return the metadata of a safetensors file.

    It has a single entry, because safetensors does not keep the order of several entries, and
    equal runs would differ in their bytes.
    """
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    told = {**facts, SUMS: sums}
    whole = sealed(source, digest_of_json(sums), **told)
    return {"rift": json.dumps({**told, PROVENANCE: whole}, sort_keys=True)}


def _facts_in(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the facts in the metadata of a safetensors file.

    Raises:
        ValueError: they are not of the types that rift writes.
    """
    facts = dict(json.loads((metadata or {}).get("rift", "{}")))
    if not all(isinstance(facts.get(key, {}), dict) for key in (SUMS, PROVENANCE)):
        raise ValueError("its metadata are not those of rift")
    return facts


def _read_safetensors(
    path: Path,
    framework: str,
    names: tuple[str, ...],
    needed: tuple[str, ...],
    mapped_above: int | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import safe_open

    if path.is_file() and path.suffix != ".safetensors":
        raise RiftError(
            f"{path}: is not a .safetensors file of rift; import weights of other programs with"
            " rift import"
        )

    def load() -> tuple[dict[str, Any], dict[str, Any]]:
        with safe_open(path, framework=framework) as content:
            facts = _facts_in(content.metadata())
            missing = [name for name in names if name not in set(content.keys())]
            missing += [name for name in needed if name not in facts]
            if missing:
                raise RiftError(
                    f"{path}: contains no {', '.join(missing)}; check that it is the right file,"
                    " and that this version of rift wrote it"
                )
            chosen = names or tuple(content.keys())
            maps = {} if mapped_above is None else _mapped(path, chosen, mapped_above)
            others = {name: content.get_tensor(name) for name in chosen if name not in maps}
            return {name: maps[name] if name in maps else others[name] for name in chosen}, facts

    arrays, facts = reading(path, load)
    sums = _checked(path, facts).get(SUMS, {})
    for name, array in arrays.items():
        if sums and hashlib.sha256(bytes_of(array)).hexdigest() != sums.get(name):
            raise damaged(path)
    return arrays, facts


def _checked(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts after a check of their checksum.

    Raises:
        RiftError: it differs from the one that was recorded.
    """
    others = {name: fact for name, fact in facts.items() if name != PROVENANCE}
    check_provenance(path, facts.get(PROVENANCE, {}), **others)
    return facts
