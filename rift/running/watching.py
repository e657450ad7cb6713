"""A run of Snakemake that a user watches: its events go to a view, its output to a file."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rift.running.jobs import Failure, Job, Jobs
from rift.running.logs import last_lines, plain
from rift.running.process import supervise
from rift.running.view import View, clock, counted

SECONDS_BETWEEN_READS = 1.0
"""Time between two looks at the logs of all running jobs, which may be many on a slow disk."""

LAST_LINES = 10
"""Lines of Snakemake's output that are shown if it ends without a word."""

AGAIN = "the same command continues; finished jobs are kept"


@dataclass
class Ended:
    """The end of a run.

    Attributes:
        status: exit status of Snakemake.
        jobs: the jobs.
        stopped: whether a signal asked it to stop.
    """

    status: int
    jobs: Jobs
    stopped: bool

    @property
    def ran(self) -> bool:
        """Return whether jobs were run, or found to be done."""
        return self.jobs.total is not None or self.jobs.nothing_to_do


class _Events:
    """The events in a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._position, self._unfinished = path, 0, b""

    def new(self) -> list[str]:
        """Return the events that were written since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            chunk = file.read()
        self._position += len(chunk)
        *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
        return [line.decode("utf-8") for line in lines]


def watch(
    words: Sequence[str],
    environment: dict[str, str],
    view: View,
    output: Path,
    *,
    doing: str,
    until: float | None = None,
) -> Ended:
    """Run Snakemake, and show its jobs until it ends.

    Args:
        words: options of Snakemake.
        environment: its environment variables.
        view: shows the jobs.
        output: file that all output is appended to, also that of the jobs.
        doing: work that Snakemake does while no job is running.
        until: time of ``time.monotonic`` at which it is stopped by SIGTERM.
    """
    jobs, stopped, read = Jobs(), False, 0.0

    with tempfile.TemporaryDirectory(prefix="rift-run-") as temporary, output.open("ab") as file:
        path = Path(temporary) / "events"
        events = _Events(path)

        def look(stopping: bool) -> None:
            nonlocal stopped, read
            stopped = stopping
            for line in events.new():
                news = jobs.take(line)
                view.planned(jobs)
                if isinstance(news, Job):
                    view.finished(news, jobs)
                elif isinstance(news, Failure) and not stopping:
                    view.failed(news)
                elif isinstance(news, str):
                    view.warn(news)
            if time.monotonic() - read > SECONDS_BETWEEN_READS:
                jobs.read_logs()
                read = time.monotonic()
            view.show(jobs, stopping=stopping, doing="" if jobs.total else doing)

        plugin = ["--logger", "rift-events", "--logger-rift-events-file", str(path)]
        command = [sys.executable, "-m", "rift.running.plugin", *plugin, *words]
        status = supervise(command, environment, output=file, watch=look, until=until)
    return Ended(status, jobs, stopped)


def say_result(view: View, ended: Ended) -> None:
    """Say what a run did that ended well."""
    if ended.jobs.total:
        view.say(f"{counted(ended.jobs.done)} done in {clock(view.seconds)}", "bold")
    else:
        view.say("nothing to do: all results are up to date", "bold")


def say_failure(view: View, ended: Ended, output: Path) -> None:
    """Say why a run ended early, and how to go on.

    Args:
        view: the view of the run.
        ended: the end of the run.
        output: file with the output of Snakemake.
    """
    jobs = ended.jobs
    of_all = "" if jobs.total is None else f", {jobs.done} of {jobs.total} jobs done"
    if ended.stopped:
        view.say(f"stopped after {clock(view.seconds)}{of_all}", "bold")
        view.say(AGAIN)
        return
    for text in jobs.errors:
        view.say("error: " + "\n".join(plain(line) for line in text.strip().splitlines()), "red")
    if jobs.failed:
        failed = f"{counted(len(jobs.failed))} failed{of_all} in {clock(view.seconds)}"
        view.say(failed, "bold")
        view.say(f"once the cause is mended, {AGAIN}")
    elif not jobs.errors:
        view.say(f"error: Snakemake ended with status {ended.status}; its last lines:", "red")
        lines = last_lines(output, LAST_LINES)
        # The lines above are a list of all options.
        wrong_option = bool(lines) and lines[-1].startswith("snakemake: error: ")
        for line in lines[-1:] if wrong_option else lines:
            view.say(f"    {line}")
