"""Files that are written whole or not at all, locks, and messages for what cannot be read."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rift.errors import RiftError, first_line

if TYPE_CHECKING:
    pass

Content = TypeVar("Content")


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
        raise RiftError(
            f"{path}: cannot be written: {'a folder is there' if path.is_dir() else 'no permission'}"
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as beside:
        beside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


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
        reason = first_line(error)
        raise RiftError(
            f"{path}: is damaged or not of the expected format ({reason}); if rift wrote it, delete it and run the stage that"
            " writes it again"
        ) from error


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
                raise RiftError(
                    f"{path}: another process is at work on this; wait for it, or stop it"
                ) from None
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
