"""Files that stages hand to each other: written whole or not at all, each with its provenance.

Weights and image sets are safetensors, tables are CSV with one leading comment line, results are JSON, per-example
outcomes are npz. Provenance (settings and their digest, seed, package version, git commit, torch version, device) stands in
the metadata of each. Nothing that differs between two equal runs (time, host) is written, so that equal runs give equal bytes.
"""

import fcntl
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from rift import __version__
from rift.errors import RiftError

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from numpy.typing import NDArray

Provenance = dict[str, Any]
Array: TypeAlias = "NDArray[Any]"  # as text: the command line imports this module, and need not wait for numpy
Content = TypeVar("Content")


def provenance(settings: Mapping[str, object], seed: int | None = None, device: str | None = None) -> Provenance:
    """Say where an artifact comes from.

    Args:
        settings: everything the stage depends on besides its input files, as JSON values.
        seed: seed of the run, where it has one.
        device: device that computed it, where there was one.
    """
    text = json.dumps(settings, sort_keys=True)
    return {
        "settings": dict(settings),
        "digest": hashlib.sha256(text.encode()).hexdigest()[:16],
        "seed": seed,
        "rift": __version__,
        "commit": commit(),
        "torch": importlib.metadata.version("torch"),
        "device": device,
    }


@functools.cache
def commit() -> str | None:
    """Return the commit of the checkout that this package runs from (-dirty, if changed since), None outside of one.

    It is asked once: a command asks first of all, and a checkout that moves on while it computes changes nothing.
    """
    repository = Path(__file__).resolve().parent.parent
    if not (repository / ".git").exists():
        return None
    describe = ["git", "-C", str(repository), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; rename it into place at the end, remove it after an exception.

    Raises:
        RiftError: the folder cannot be made or written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        beside = Path(name)
        try:
            yield beside
            beside.chmod(0o666 & ~_umask())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise RiftError(f"{path}: cannot be written: {error.strerror or error}") from error


def check_writable(path: Path) -> None:
    """Make sure that a file can be written, before hours are spent on what goes into it.

    Raises:
        RiftError: the folder, or the first above it that exists, is none or may not be written to.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise RiftError(f"{path}: cannot be written: {folder} is not a folder")
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise RiftError(f"{path}: cannot be written: {'a folder is there' if path.is_dir() else 'no permission'}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as beside:
        beside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, content: Mapping[str, object], source: Provenance) -> None:
    write_text(path, json.dumps({**content, "provenance": source}, indent=2) + "\n")


def read_json(path: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a JSON artifact, its provenance under the key ``provenance``, and make sure that it has these keys.

    Raises:
        RiftError: it cannot be read, or lacks a key.
    """
    content = reading(path, lambda: dict(json.loads(path.read_text())))
    missing = [key for key in keys if key not in content]
    if missing:
        raise RiftError(f"{path}: holds no {', '.join(missing)}; delete it and run the stage that writes it again")
    return content


def write_csv(path: Path, table: "pd.DataFrame", source: Provenance) -> None:
    """Write a table; its provenance and the number of its rows are the comment in the first line."""
    write_text(path, f"# {json.dumps({**source, 'rows': len(table)}, sort_keys=True)}\n{table.to_csv(index=False)}")


def read_csv(path: Path, columns: tuple[str, ...], may_lack: tuple[str, ...] = ()) -> "pd.DataFrame":
    """Read a table and make sure that it has these columns.

    Args:
        path: of the file.
        columns: without which it is not what is looked for; a cell of theirs that is empty is damage.
        may_lack: further ones, with cells that may be empty.

    Raises:
        RiftError: it cannot be read, lacks a column, or has been cut off.
    """
    import pandas as pd

    table = reading(path, lambda: pd.read_csv(path, comment="#"))
    missing = [column for column in (*columns, *may_lack) if column not in table]
    rows = read_provenance(path).get("rows")
    if missing or table.empty or len(table) != rows or bool(table[list(columns)].isna().to_numpy().any()):
        what = f"lacks the columns {', '.join(missing)}" if missing else f"is not whole: {rows} rows were written"
        raise RiftError(f"{path}: {what}; delete it and run the stage that writes it again")
    return table


def read_provenance(path: Path) -> Provenance:
    """Read the provenance of a table: settings and the rest.

    Raises:
        RiftError: it cannot be read or has none.
    """
    return reading(path, lambda: dict(json.loads(path.read_text().splitlines()[0].removeprefix("# "))))


def write_outcomes(path: Path, outcomes: Mapping[str, Array], source: Provenance) -> None:
    """Write per-example outcomes: named boolean arrays whose last axis is the test image, counted from the first."""
    import numpy as np

    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        # np.savez would stamp the time of day on each entry: equal runs would differ in their bytes.
        for name, array in {**outcomes, "provenance": np.array(json.dumps(source))}.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def read_outcomes(path: Path) -> dict[str, Array]:
    import numpy as np

    def load() -> dict[str, Array]:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files if name != "provenance"}

    return reading(path, load)


def read_origin(path: Path) -> Provenance:
    """Read the provenance of per-example outcomes, and none of them.

    Raises:
        RiftError: it cannot be read or has none.
    """
    import numpy as np

    def load() -> Provenance:
        with np.load(path, allow_pickle=False) as content:
            return dict(json.loads(str(content["provenance"])))

    return reading(path, load)


def write_arrays(path: Path, arrays: Mapping[str, Array], source: Provenance, **facts: object) -> None:
    """Write named arrays as safetensors with ``facts`` (JSON values) and the provenance in its metadata."""
    from safetensors.numpy import save

    write_bytes(path, save(dict(arrays), metadata=_metadata(source, facts)))


def read_arrays(
    path: Path, names: tuple[str, ...], facts: tuple[str, ...] = ()
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the named arrays and all facts of a safetensors file.

    Raises:
        RiftError: it cannot be read, or lacks one of the arrays or facts named.
    """
    return _read_safetensors(path, "numpy", names, facts)


def write_array(path: Path, array: Array) -> None:
    """Write one array as ``.npy``."""
    import numpy as np

    with replacing(path) as beside, beside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path) -> Array:
    """Read one array from ``.npy``; it stays on disk until it is looked at.

    Raises:
        RiftError: it cannot be read, or has been cut off.
    """
    import numpy as np

    def load() -> Array:
        array: Array = np.lib.format.open_memmap(path, mode="r")
        return array

    return reading(path, load)


def write_weights(path: Path, state: Mapping[str, "torch.Tensor"], source: Provenance, **facts: object) -> None:
    """Write a state dict as safetensors with ``facts`` (JSON values) and the provenance in its metadata."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_bytes(path, save(tensors, metadata=_metadata(source, facts)))


def read_weights(path: Path, facts: tuple[str, ...] = ()) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """Read a state dict and the facts of a safetensors file.

    Raises:
        RiftError: it cannot be read, or lacks one of the facts named.
    """
    return _read_safetensors(path, "pt", (), facts)


def write_state(path: Path, state: Mapping[str, object]) -> None:
    """Write the state of a stage under way: tensors, numbers, texts, and lists and dicts of them."""
    import torch

    with replacing(path) as beside:
        torch.save(dict(state), beside)


def read_state(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Read a state and make sure that it has these keys.

    Raises:
        RiftError: it cannot be read, or lacks a key.
    """
    import torch

    def load() -> dict[str, Any]:
        return dict(torch.load(path, map_location="cpu", weights_only=True))

    state = reading(path, load)
    missing = [key for key in keys if key not in state]
    if missing:
        raise RiftError(f"{path}: holds no {', '.join(missing)}; delete it to begin anew")
    return state


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, so that no other process works on the same files; a process that is killed lets go of it.

    Args:
        path: file that stands for the lock; it is made, and removed at the end.

    Raises:
        RiftError: another process holds it, or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = path.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise RiftError(f"{path}: another process is at work on this; wait for it, or stop it") from None
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                break
            file.close()  # its holder has just removed it: this lock would keep nobody out
    except OSError as error:
        raise RiftError(f"{path}: cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def remove_leftovers(path: Path) -> None:
    """Remove what writers of a file left beside it when they were killed; nobody else may be writing it now."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        leftover.unlink(missing_ok=True)


def read_facts(path: Path) -> dict[str, Any]:
    """Read the facts of a safetensors file, its provenance among them, and none of its arrays.

    Raises:
        RiftError: it cannot be read.
    """
    from safetensors import safe_open

    def load() -> dict[str, Any]:
        with safe_open(path, framework="numpy") as content:
            return dict(json.loads((content.metadata() or {}).get("rift", "{}")))

    return reading(path, load)


def _metadata(source: Provenance, facts: Mapping[str, object]) -> dict[str, str]:
    # One entry: safetensors writes several in an order of its own, and equal runs would differ in their bytes.
    return {"rift": json.dumps({**facts, "provenance": source}, sort_keys=True)}


def _read_safetensors(
    path: Path, framework: str, names: tuple[str, ...], needed: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import safe_open

    if path.is_file() and path.suffix != ".safetensors":
        raise RiftError(f"{path}: is not a .safetensors file of rift's; weights from elsewhere go through rift import")

    def load() -> tuple[dict[str, Any], dict[str, Any]]:
        with safe_open(path, framework=framework) as content:
            facts = json.loads((content.metadata() or {}).get("rift", "{}"))
            missing = [name for name in names if name not in set(content.keys())]
            missing += [name for name in needed if name not in facts]
            if missing:
                raise RiftError(
                    f"{path}: holds no {', '.join(missing)}; is it the right file, and written by this version?"
                )
            return {name: content.get_tensor(name) for name in names or content.keys()}, facts

    return reading(path, load)


def reading(path: Path, load: Callable[[], Content]) -> Content:
    """Load a file; what goes wrong becomes a message that names it.

    Raises:
        RiftError: anything that ``load`` raises, or what it raises itself as one.
    """
    try:
        return load()
    except RiftError:
        raise
    except FileNotFoundError as error:
        raise RiftError(f"{path}: does not exist; run the stage that writes it first") from error
    except IsADirectoryError as error:
        raise RiftError(f"{path}: is a folder, not a file") from error
    except PermissionError as error:
        raise RiftError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # every format has exceptions of its own for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RiftError(
            f"{path}: is damaged or not of the expected format ({reason}); if rift wrote it, delete it and run the stage that"
            " writes it again"
        ) from error
