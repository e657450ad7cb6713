"""Logs of earlier attempts of a job.

Snakemake removes the log of a job before every attempt. In a workflow, a command therefore gives
its log a second name (a hard link), and the next attempt begins its log with what is there.
"""

import datetime
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from rift.commands.command import say

SECOND_NAME = ".attempts"
"""Ending of the second name of a log."""


def continue_log() -> None:
    """Begin the log of this process with those of earlier attempts, and a line about this one.

    Nothing happens if standard output is no file that ends with ``.log``.
    """
    with suppress(OSError):
        log = _file_of_output()
        if log is None:
            return
        second = log.with_name(f"{log.name}{SECOND_NAME}")
        earlier = second.read_bytes() if second.exists() else b""
        sys.stdout.flush()
        if earlier and not second.samefile(log):
            # The file may end in the middle of a line, where a process was killed.
            os.write(sys.stdout.fileno(), earlier.rstrip(b"\n") + b"\n")
        job = os.environ.get("SLURM_JOB_ID")
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        say(f"-- {now} on {socket.gethostname()}{f', job {job}' if job else ''}")
        second.unlink(missing_ok=True)
        second.hardlink_to(log)


def _file_of_output() -> Path | None:
    """Return the log that standard output is written to; None if it is none."""
    output = Path(f"/proc/self/fd/{sys.stdout.fileno()}")
    if not output.is_symlink():
        return None  # a system without /proc
    log = output.readlink()
    return log if log.suffix == ".log" and log.is_file() else None
