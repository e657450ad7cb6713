"""The lock that a killed Snakemake leaves behind.

Snakemake locks the files of a workflow by files in ``.snakemake/locks``, and does not say which
process wrote them. After SIGKILL they stay, and the same command is refused. A run therefore
records its lock files and holds a lock of the system, which ends with the process. Recorded lock
files whose process has ended belong to nobody.
"""

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from rift import cluster
from rift.errors import RiftError

_LOCKS = "locks"


def begin(folder: Path, name: str, *, submits: bool, tell: Callable[[str], None]) -> IO[str] | None:
    """Check that the jobs of a run can start, and hold the lock of the run.

    Args:
        folder: folder ``.snakemake`` of the workflow.
        name: name of the experiment. Several experiments may run in a folder.
        submits: whether jobs are submitted to a cluster.
        tell: called with a line of text if jobs in the queue may be those of another run.

    Returns:
        A file that must stay open as long as the run lasts, or None, as from ``hold``.

    Raises:
        RiftError: jobs would not find rift, or jobs of a run that has ended are in the queue.
    """
    cluster.check_command()
    jobs = cluster.queued_jobs(folder.resolve().parent) if submits else []
    if jobs:
        others = [each for each in folder.glob("rift-*.json") if each != _record(folder, name)]
        if not any(_is_held(each) for each in others):
            raise RiftError(cluster.left_behind(jobs))
        tell(f"If they are not those of the other run: {cluster.left_behind(jobs)}")
    return hold(folder, name)


def _is_held(record: Path) -> bool:
    """Return whether the process that wrote a record is alive."""
    with suppress(OSError), record.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def hold(folder: Path, name: str) -> IO[str] | None:
    """Record the lock files of this run as held by this process.

    Args:
        folder: folder ``.snakemake`` of the workflow.
        name: name of the experiment. Several experiments may run in a folder.

    Returns:
        A file that must stay open as long as the run lasts. None if it cannot be locked, so that
        the lock files stay until somebody removes them.
    """
    path = _record(folder, name)
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(json.dumps(_lock_files(folder)))
        file.flush()
    except OSError:
        file.close()
        return None
    return file


def release_of_ended(folder: Path, name: str, tell: Callable[[str], None]) -> None:
    """Remove the lock files of a run of this experiment whose process has ended.

    Lock files that are not recorded, or are newer than the record, are left alone: they belong to
    another workflow, or to a run that begins at this moment.

    Args:
        folder: folder ``.snakemake`` of the workflow.
        name: name of the experiment.
        tell: called with a line of text if files were removed.
    """
    with suppress(OSError, ValueError), _record(folder, name).open(encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the process is alive
        recorded: dict[str, Any] = json.load(file)
        removed = False
        for lock, written in _lock_files(folder).items():
            if recorded.get(lock) == written:
                (folder / _LOCKS / lock).unlink()
                removed = True
        if removed:
            tell(
                "The Snakemake process before this one was killed: its lock has been removed."
                " Jobs of it that are still running are waited for."
            )


def wait_for_running(folder: Path, name: str, tell: Callable[[str], None]) -> None:
    """Wait until no process runs this experiment.

    Args:
        folder: folder ``.snakemake`` of the workflow.
        name: name of the experiment.
        tell: called with a line of text if there is such a process.
    """
    with suppress(OSError), _record(folder, name).open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(
                "another run of this experiment is working in this folder; waiting for its end"
                " (Ctrl-C ends the waiting, not that run)"
            )
            fcntl.flock(file, fcntl.LOCK_SH)


def _record(folder: Path, name: str) -> Path:
    return folder / f"rift-{name}.json"


def _lock_files(folder: Path) -> dict[str, list[int]]:
    """Return the lock files by name, each with its inode and the time of its last change."""
    found: dict[str, list[int]] = {}
    with suppress(OSError), os.scandir(folder / _LOCKS) as entries:
        for entry in entries:
            status = entry.stat()
            found[entry.name] = [status.st_ino, status.st_mtime_ns]
    return found
