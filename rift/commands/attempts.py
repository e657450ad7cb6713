"""Logs of all attempts of a job.

Snakemake removes the log of a job before every attempt. In a workflow, a command therefore gives
its log a second name (a hard link), and the next attempt begins its log with what is there.
"""

import datetime
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rift.artifacts.attempts import attempts_in, end_of_attempt
from rift.commands.command import say

SECOND_NAME = ".attempts"
"""Ending of the second name of a log."""

PULSE = 5.0
"""Seconds between two signs of life. They date the end of an attempt that is killed."""


@contextmanager
def logged_attempt() -> Iterator[None]:
    """Write begin and end of this attempt to the log, after the logs of earlier attempts.

    The end of an attempt that did not end well is written by the next one. Nothing happens if
    standard output is no file that ends with ``.log``.
    """
    begin = time.monotonic()
    log = None
    with suppress(OSError):
        log = _file_of_output()
        if log is not None:
            _continue(log)
    if log is None:
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_show_life, args=(ended,), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
    say(end_of_attempt(time.monotonic() - begin, finished=True))


def _continue(log: Path) -> None:
    """Begin a log with those of earlier attempts, and a line about this one."""
    second = log.with_name(f"{log.name}{SECOND_NAME}")
    if second.exists() and not second.samefile(log):
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), _earlier(second))
    job = os.environ.get("SLURM_JOB_ID")
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    say(f"-- {now} on {socket.gethostname()}{f', job {job}' if job else ''}")
    second.unlink(missing_ok=True)
    second.hardlink_to(log)


def _earlier(second: Path) -> bytes:
    """Return the log of earlier attempts, with the end of the last one.

    The file may end in the middle of a line, where a process was killed.
    """
    content = second.read_bytes().rstrip(b"\n")
    if not content:
        return b""
    last = [*attempts_in(content.decode(errors="replace"))][-1:]
    if last and last[0].seconds is None:
        # The date of the file is the last sign of life.
        alive = second.stat().st_mtime - datetime.datetime.fromisoformat(last[0].begin).timestamp()
        content += f"\n{end_of_attempt(max(alive, 0.0), finished=False)}".encode()
    return content + b"\n"


def _show_life(ended: threading.Event) -> None:
    """Give the log the date of now every few seconds."""
    while not ended.wait(PULSE):
        with suppress(OSError):
            os.utime(sys.stdout.fileno())


def _file_of_output() -> Path | None:
    """Return the log that standard output is written to; None if it is none."""
    output = Path(f"/proc/self/fd/{sys.stdout.fileno()}")
    if not output.is_symlink():
        return None  # a system without /proc
    log = output.readlink()
    return log if log.suffix == ".log" and log.is_file() else None
