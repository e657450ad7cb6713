"""The process of Snakemake: signals reach it and its jobs, and somebody may watch it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import BinaryIO

SECONDS_BETWEEN_LOOKS = 0.25


def supervise(
    command: Sequence[str],
    environment: dict[str, str],
    *,
    output: BinaryIO | None = None,
    watch: Callable[[bool], None] = lambda stopping: None,
    until: float | None = None,
) -> int:
    """Run Snakemake, pass signals on to it and to its jobs, and return its exit status.

    SIGINT and SIGTERM are passed on. A closed terminal (SIGHUP) is passed on as SIGTERM, unless it
    is ignored, as ``nohup`` asks for.

    Args:
        command: words of its command line.
        environment: its environment variables.
        output: file that gets its output and that of its jobs; this process's own by default.
        watch: called several times per second, and after the end. It receives whether a signal
            has been passed on.
        until: time of ``time.monotonic`` at which it is stopped by SIGTERM.
    """
    stopping = False
    # In a session of its own, Snakemake and its jobs get a Ctrl-C exactly once: from here.
    process = subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
    )

    def forward(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        if process.poll() is None:
            # Jobs save their state on SIGTERM. A hang-up would end them without it.
            os.killpg(process.pid, signal.SIGTERM if number == signal.SIGHUP else number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {each: signal.signal(each, forward) for each in numbers}
    try:
        while process.poll() is None:
            watch(stopping)
            if until is not None and not stopping and time.monotonic() >= until:
                # A Snakemake that is only starting would lose a SIGINT.
                forward(signal.SIGTERM, None)
            try:
                process.wait(SECONDS_BETWEEN_LOOKS)
            except subprocess.TimeoutExpired:
                continue
        watch(stopping)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    status = process.returncode
    return 128 - status if status < 0 else status
