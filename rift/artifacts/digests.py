"""Digests of the content of artifacts, and of their provenance.

An artifact records two digests in its provenance. ``content`` covers the content alone, so that
equal numbers have equal digests for all commits. ``checksum`` covers the provenance, and in
safetensors all facts, so that a changed bit in them is found too.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rift.artifacts.provenance import Provenance
from rift.errors import RiftError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

# The type is a string, so that the command line does not wait for the import of numpy.
Array: TypeAlias = "NDArray[Any]"

PROVENANCE, CONTENT, CHECKSUM = "provenance", "content", "checksum"


def sealed(source: Provenance, content: str, **facts: object) -> Provenance:
    """Return the provenance with the digest of the content and the checksum of all of it.

    Args:
        source: provenance; digests of another content in it are replaced.
        content: digest of the content.
        **facts: further facts that the checksum covers.
    """
    whole = {**without_digests(source), CONTENT: content}
    return {**whole, CHECKSUM: digest_of_json({**facts, PROVENANCE: whole})}


def without_digests(source: Mapping[str, Any]) -> Provenance:
    """Return the provenance without the digests that belong to one file."""
    return {key: value for key, value in source.items() if key not in (CONTENT, CHECKSUM)}


def check_provenance(path: Path, source: Mapping[str, Any], **facts: object) -> None:
    """Check that provenance and facts have the checksum that was recorded with them.

    Files of earlier versions have none.

    Args:
        path: file, for the message.
        source: provenance in the file.
        **facts: further facts that the checksum covers.

    Raises:
        RiftError: the checksums differ.
    """
    whole = {key: value for key, value in source.items() if key != CHECKSUM}
    if CHECKSUM in source and source[CHECKSUM] != digest_of_json({**facts, PROVENANCE: whole}):
        raise damaged(path)


def check_content(path: Path, source: Mapping[str, Any], found: str) -> None:
    """Check that the content has the digest that was recorded when it was written.

    Raises:
        RiftError: the digests differ.
    """
    if CONTENT in source and source[CONTENT] != found:
        raise damaged(path)


def bytes_of(array: "Array | torch.Tensor") -> memoryview:
    """Return the bytes of an array or tensor in row-major order."""
    import numpy as np

    if not isinstance(array, np.ndarray):
        import torch

        array = array.contiguous().reshape(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def digest_of_arrays(arrays: "Mapping[str, Array] | Mapping[str, torch.Tensor]") -> str:
    """Return the digest of named arrays or tensors: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(bytes_of(array))
    return digest.hexdigest()


def digest_of_json(values: Mapping[str, object]) -> str:
    """Return the digest of JSON values, whatever the order of their keys."""
    return digest_of_text(json.dumps(values, sort_keys=True))


def digest_of_text(text: str) -> str:
    """Return the digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def damaged(path: Path) -> RiftError:
    """Return the error for a file that does not match its digest."""
    return RiftError(
        f"{path}: is damaged: its content does not match its digest; delete it and run the stage"
        " that writes it"
    )
