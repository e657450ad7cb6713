"""States of interrupted stages: files with a digest, and the file before as a reserve.

Format: one line of text with the digest of everything after it, then what ``torch.save`` writes.
"""

import hashlib
import io
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from rift.artifacts.digests import damaged
from rift.artifacts.files import reading, replacing
from rift.errors import RiftError

State = dict[str, Any]
"""Everything that another process needs to continue: tensors, numbers, strings, lists and dicts."""

_HEADER = b"rift state, sha256 %b\n"
_NO_DIGEST = b"0" * 64
# The beginning of a zip archive, which is a state of an earlier version, without a digest.
_ZIP = b"PK"


def previous_state(path: Path) -> Path:
    """Return the path of the state that was saved before the last one."""
    return path.with_name(f"{path.name}.previous")


def write_state(path: Path, state: Mapping[str, object]) -> None:
    """Write the state of a stage: tensors, numbers, strings, lists and dicts.

    Raises:
        RiftError: the file cannot be written.
    """
    import torch

    # torch reports a full disk in its own words, so it writes into memory.
    content = io.BytesIO()
    torch.save(dict(state), content)
    digest = hashlib.sha256(content.getbuffer()).hexdigest().encode()
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_HEADER % digest)
        file.write(content.getbuffer())


def replace_state(path: Path, state: Mapping[str, object]) -> None:
    """Write the state of a stage, and keep the one before under another name.

    Raises:
        RiftError: the file cannot be written.
    """
    fresh = path.with_name(f"{path.name}.new")
    write_state(fresh, state)
    try:
        if path.exists():
            path.replace(previous_state(path))
        fresh.replace(path)
    except OSError as error:
        raise RiftError(
            f"{path}: cannot be written: {error.strerror or error}; choose another path"
        ) from error


def remove_states(path: Path) -> None:
    """Remove a state, the one before, and what a killed writer left."""
    for each in (path, previous_state(path), path.with_name(f"{path.name}.new")):
        each.unlink(missing_ok=True)


def read_state(path: Path, keys: tuple[str, ...]) -> State:
    """Return a state, and check its digest and that it has the given keys.

    Raises:
        RiftError: the file cannot be read, is damaged, or lacks a key.
    """
    import torch

    def load() -> State:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                file.seek(0)
                header = file.read(len(_HEADER % _NO_DIGEST))
                digest = _digest_of_rest(file)
                if header != _HEADER % digest:
                    raise damaged(path)
                file.seek(len(header))
            else:
                file.seek(0)
            content = io.BytesIO(file.read())
        return dict(torch.load(content, map_location="cpu", weights_only=True))

    state = reading(path, load)
    missing = [key for key in keys if key not in state]
    if missing:
        raise RiftError(f"{path}: contains no {', '.join(missing)}; delete the file to start again")
    return state


def _digest_of_rest(file: BufferedReader) -> bytes:
    """Return the digest of everything after the header."""
    file.seek(len(_HEADER % _NO_DIGEST))
    return hashlib.file_digest(file, "sha256").hexdigest().encode()
