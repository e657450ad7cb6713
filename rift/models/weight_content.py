"""The content of weight files from other programs, read without running code in them.

The content decides how a file is read, not its name. Pickles may contain only tensors and plain
values (``weights_only``).
"""

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rift.errors import RiftError, first_line

_WEB_PAGE = "is a web page, not weights: open the link in a browser and download the weights there"
# Messages for common files that do not contain weights, by their first bytes.
POSING = {
    b"<!doctype": _WEB_PAGE,
    b"<html": _WEB_PAGE,
    b"<?xml": _WEB_PAGE,
    b"\x1f\x8b": "is a gzip archive: unpack it first",
    b"7z\xbc\xaf": "is a 7z archive: unpack it first",
    b"Rar!": "is a rar archive: unpack it first",
    b"\xfd7zXZ": "is an xz archive: unpack it first",
    b"BZh": "is a bzip2 archive: unpack it first",
    b"\x89HDF": "is an HDF5 file, not weights of torch: save a state_dict() and import that file",
    b"version https://git-lfs": (
        "is a Git LFS pointer, not weights: run git lfs pull in the repository"
    ),
}
ALONE = "in Python, save its state_dict() with torch.save, and import that file"
# Entries of zip archives that show what torch wrote, and the messages for them.
ARCHIVES = {
    "constants.pkl": f"is TorchScript, which contains code: load it with torch.jit.load {ALONE}",
    "archive_format": f"is a program of torch.export, which contains code: load it {ALONE}",
    "serialized_exported_program.json": (
        f"is a program of torch.export, which contains code: load it {ALONE}"
    ),
}


class Omitted(dict[Any, Any]):
    """An object in a pickle that is no weight: it is created without its values."""

    def __new__(cls, *_arguments: object) -> "Omitted":
        return super().__new__(cls)

    def __init__(self, *_arguments: object) -> None:
        super().__init__()

    def __setstate__(self, _state: object) -> None:
        """Ignore the state."""


class OmittedMapping(Omitted):
    """A mapping in a pickle: torch fills it, so it becomes a plain dict."""

    def __new__(cls, *_arguments: object) -> Any:
        return {}


# Objects that training scripts save beside the weights. Nothing of these classes is called: an
# ``Omitted`` replaces each object.
BESIDE_WEIGHTS = (
    *(
        f"{numpy}.{name}"
        for numpy in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("scalar", "_reconstruct")
    ),
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"numpy.dtypes.{kind}DType"
        for kind in (
            *("Bool", "Float16", "Float32", "Float64", "Str"),
            *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
        )
    ),
    "_codecs.encode",
    "argparse.Namespace",
    *(f"pathlib.{kind}Path" for kind in ("Posix", "Windows", "PurePosix", "PureWindows")),
    *(f"pathlib._local.{kind}Path" for kind in ("Posix", "Windows", "PurePosix", "PureWindows")),
)
MAPPINGS_BESIDE_WEIGHTS = (
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)


def load_content(path: Path) -> Any:
    """Return the content of a file of torch.save or safetensors, by its first bytes.

    Args:
        path: file to read.

    Raises:
        RiftError: the file is missing, damaged or not a weight file, or contains objects other than
            tensors and plain values.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
            size = file.seek(0, 2)
    except OSError as error:
        raise RiftError(
            f"{path}: cannot be read: {error.strerror}; check the path and its permissions"
        ) from error
    # A safetensors file starts with 8 arbitrary bytes, the length of its header, and an opening
    # brace. Its first bytes can be those of another format by chance.
    if head[8:9] == b"{":
        if path.suffix == ".safetensors" or int.from_bytes(head[:8], "little") <= size - 8:
            return _safetensors(path)
    else:
        for magic, problem in POSING.items():
            if head.lstrip().lower().startswith(magic.lower()):
                raise RiftError(f"{path}: {problem}")
    if head[257:262] == b"ustar":
        raise RiftError(f"{path}: is a tar archive: unpack it first")
    pickled = head.startswith((b"PK\x03\x04", b"\x80"))
    return _safetensors(path) if path.suffix == ".safetensors" and not pickled else _pickled(path)


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise RiftError(
            f"{path}: is damaged or not a safetensors file ({error}); download it again"
        ) from error


def _pickled(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        for entry, problem in ARCHIVES.items():
            if any(name.rsplit("/", 1)[-1] == entry for name in names):
                raise RiftError(f"{path}: {problem}")
        if not any(name.endswith("data.pkl") for name in names):
            raise RiftError(f"{path}: is a zip archive, not weights: unpack it first")
    try:
        # torch reads a path that ends in .safetensors by its name.
        with _omitting(), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message has many lines; only this one names the rejected object.
        reason = next(
            (line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line),
            "",
        )
        raise RiftError(
            f"{path}: does not contain only tensors"
            f" ({reason.strip() or 'its pickle cannot be read'}); other objects in a pickle can run"
            " code, so it is not opened; if you trust the file, load it in Python, save"
            " model.state_dict() and import that file"
        ) from error
    # The type of the exception depends on which part of the file is damaged.
    except Exception as error:
        raise RiftError(
            f"{path}: is damaged or not a file of torch.save ({first_line(error)}); download it"
            " again"
        ) from error


@contextmanager
def _omitting() -> Iterator[None]:
    """Let torch.load replace the objects of some classes by ``Omitted``.

    torch finds a class by its module and name, so every name needs a class of its own.
    """
    classes: list[Any] = []
    kinds = {
        **dict.fromkeys(BESIDE_WEIGHTS, Omitted),
        **dict.fromkeys(MAPPINGS_BESIDE_WEIGHTS, OmittedMapping),
    }
    for name, kind in kinds.items():
        module, _, own = name.rpartition(".")
        classes.append(type(own, (kind,), {"__module__": module, "__qualname__": own}))
    with torch.serialization.safe_globals(classes):
        yield
