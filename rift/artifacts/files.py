"""Atomic writing of files, locks, and messages for unreadable files."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from rift.errors import RiftError, first_line, is_out_of_memory

Content = TypeVar("Content")


class LockedError(RiftError):
    """Another process is working on the same output."""


LONGEST_NAME = 235
"""Longest name of an output: 255 bytes, less the endings of states and temporary files."""

_READ: ContextVar[set[Path] | None] = ContextVar("read", default=None)


@contextmanager
def recording_reads() -> Iterator[set[Path]]:
    """Yield a set that collects the path of every file that ``reading`` reads meanwhile."""
    paths: set[Path] = set()
    token = _READ.set(paths)
    try:
        yield paths
    finally:
        _READ.reset(token)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``, and rename it to ``path`` at the end.

    After an exception, the temporary file is removed and ``path`` stays as it was. The content is
    flushed to the disk before the rename, against a power failure in between. A link stays a link,
    and the file that it points to is replaced.

    Raises:
        RiftError: the folder cannot be created or written to, the disk is full, or the path is
            neither free nor a regular file.
    """
    _refuse_special(path)
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _flush(temporary)
            temporary.replace(target)
            _flush(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def check_writable(path: Path) -> None:
    """Check that a file can be written, before its content takes hours to compute.

    The nearest parent that exists must be a writable folder. The path itself must be free or a
    regular file.

    Raises:
        RiftError: the file cannot be written.
    """
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise _unwritable(
            path, f"its name is longer than {LONGEST_NAME} bytes, the limit of file systems"
        )
    folder = next(parent for parent in path.resolve().parents if parent.exists())
    if not folder.is_dir():
        raise _unwritable(path, f"{folder} is not a folder")
    _refuse_special(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(path, f"no permission in {folder}")


def _refuse_special(path: Path) -> None:
    """Raise an error for a folder, device, pipe or socket, which a rename would replace."""
    if path.is_dir():
        raise _unwritable(path, "it is a folder")
    if path.exists() and not path.is_file():
        raise _unwritable(path, "it is a device, pipe or socket")


def _flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, reason: str) -> RiftError:
    return RiftError(f"{path}: cannot be written: {reason}; choose another path")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write bytes to a file, whole or not at all.

    Raises:
        RiftError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write text to a file in UTF-8, whole or not at all.

    Raises:
        RiftError: the file cannot be written.
    """
    write_bytes(path, text.encode())


def reading(path: Path, load: Callable[[], Content]) -> Content:
    """Return the result of ``load``, and turn any error into a message that names the file.

    Args:
        path: file that ``load`` reads.
        load: function that reads the file.

    Raises:
        RiftError: ``load`` raised an exception; a RiftError passes unchanged.
    """
    try:
        content = load()
        read = _READ.get()
        if read is not None:
            read.add(path)
        return content
    except RiftError:
        raise
    except FileNotFoundError as error:
        raise RiftError(
            f"{path}: does not exist; check the path, or run the stage that writes it"
        ) from error
    except IsADirectoryError as error:
        raise RiftError(f"{path}: is a folder; name a file instead") from error
    except PermissionError as error:
        raise RiftError(
            f"{path}: cannot be read: {error.strerror}; change its permissions"
        ) from error
    except Exception as error:  # each format has its own exceptions for a damaged file
        if is_out_of_memory(error):
            raise
        reason = first_line(error)
        raise RiftError(
            f"{path}: is damaged or not of the expected format ({reason}); if rift wrote it, delete"
            " it and run the stage that writes it again"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, so that no other process works on the same files.

    The system releases the lock of a killed process.

    Args:
        path: lock file; it is created, and removed at the end.

    Raises:
        LockedError: another process holds the lock.
        RiftError: the file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = path.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise LockedError(
                    f"{path}: another process is working on the same output; wait for it or stop it"
                ) from None
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                break
            file.close()  # the holder has just removed this file, so its lock excludes nobody
    except OSError as error:
        raise RiftError(
            f"{path}: cannot be locked: {error.strerror or error}; write to a folder with write"
            " permission, on a file system that supports locks"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def wait_until_unlocked(path: Path, tell: Callable[[], None]) -> bool:
    """Wait until no process holds a lock, and return whether there was one to wait for.

    Args:
        path: lock file; it is not created.
        tell: called once before waiting.
    """
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                tell()
                fcntl.flock(file, fcntl.LOCK_SH)
                return True
    except OSError:
        return False  # no lock file, or no locks on this file system: nobody to wait for
    return False


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that killed writers of a file left in its folder.

    No other process may be writing the file at the same time.
    """
    target = path.resolve()
    for leftover in target.parent.glob(f".{target.name}.*"):
        leftover.unlink(missing_ok=True)
