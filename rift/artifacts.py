"""Files that stages hand to each other: written whole or not at all, each with its provenance.

Weights and image sets are safetensors, tables are CSV with one leading comment line, results are JSON, per-example
outcomes are npz. Provenance (settings and their digest, seed, package version, git commit, torch version, device) stands in
the metadata of each. Nothing that differs between two equal runs (time, host) is written, so that equal runs give equal bytes.
"""

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
        "commit": _commit(),
        "torch": importlib.metadata.version("torch"),
        "device": device,
    }


@functools.cache
def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from, None outside of one."""
    package = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", package, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    top, commit = answer.stdout.splitlines()
    return commit if Path(top) == package.parent.resolve() else None


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
        raise RiftError(f"{path}: cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text)


def write_json(path: Path, content: Mapping[str, object], source: Provenance) -> None:
    write_text(path, json.dumps({**content, "provenance": source}, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON artifact, its provenance under the key ``provenance``."""
    return _reading(path, lambda: dict(json.loads(path.read_text())))


def write_csv(path: Path, table: "pd.DataFrame", source: Provenance) -> None:
    """Write a table; its provenance is the comment in the first line."""
    write_text(path, f"# {json.dumps(source)}\n{table.to_csv(index=False)}")


def read_csv(path: Path, columns: tuple[str, ...]) -> "pd.DataFrame":
    """Read a table and make sure that it has these columns.

    Raises:
        RiftError: it cannot be read, is empty, or lacks a column.
    """
    import pandas as pd

    table = _reading(path, lambda: pd.read_csv(path, comment="#"))
    missing = [column for column in columns if column not in table]
    if missing or table.empty:
        what = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise RiftError(f"{path}: {what}; delete it and run the stage that writes it again")
    return table


def read_provenance(path: Path) -> Provenance:
    """Read the provenance of a table: settings and the rest.

    Raises:
        RiftError: it cannot be read or has none.
    """
    return _reading(path, lambda: dict(json.loads(path.read_text().splitlines()[0].removeprefix("# "))))


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

    return _reading(path, load)


def write_arrays(path: Path, arrays: Mapping[str, Array], source: Provenance, **facts: object) -> None:
    """Write named arrays as safetensors with ``facts`` (JSON values) and the provenance in its metadata."""
    from safetensors.numpy import save_file

    with replacing(path) as beside:
        save_file(dict(arrays), beside, metadata=_metadata(source, facts))


def read_arrays(path: Path, names: tuple[str, ...] = ()) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read arrays (all, or those named) and the facts of a safetensors file.

    Raises:
        RiftError: it cannot be read, or lacks a name.
    """
    return _read_safetensors(path, "numpy", names)


def write_weights(path: Path, state: Mapping[str, "torch.Tensor"], source: Provenance, **facts: object) -> None:
    """Write a state dict as safetensors with ``facts`` (JSON values) and the provenance in its metadata."""
    from safetensors.torch import save_file

    with replacing(path) as beside:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        save_file(tensors, beside, metadata=_metadata(source, facts))


def read_weights(path: Path) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """Read a state dict and the facts of a safetensors file.

    Raises:
        RiftError: it cannot be read.
    """
    return _read_safetensors(path, "pt", ())


def _metadata(source: Provenance, facts: Mapping[str, object]) -> dict[str, str]:
    # One entry: safetensors writes several in an order of its own, and equal runs would differ in their bytes.
    return {"rift": json.dumps({**facts, "provenance": source}, sort_keys=True)}


def _read_safetensors(path: Path, framework: str, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import safe_open

    def load() -> tuple[dict[str, Any], dict[str, Any]]:
        with safe_open(path, framework=framework) as content:
            missing = [name for name in names if name not in set(content.keys())]
            if missing:
                raise RiftError(f"{path}: holds no {', '.join(missing)}; is it the right file?")
            facts = json.loads((content.metadata() or {}).get("rift", "{}"))
            return {name: content.get_tensor(name) for name in names or content.keys()}, facts

    return _reading(path, load)


def _reading(path: Path, load: Callable[[], Content]) -> Content:
    """Load a file; what goes wrong becomes a message that names it."""
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
            f"{path}: is damaged or not of the expected format ({reason}); delete it and run the stage that writes it again"
        ) from error
