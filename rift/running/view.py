"""The view of a run: a few lines that a terminal shows again and again, or else plain lines."""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rift.running.jobs import Failure, Job, Jobs
from rift.running.logs import plain, shortened

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

SECONDS_OF_SILENCE = 600
"""Plain lines: time after which a line says which jobs are running, if none has ended."""

FAILURES_IN_FULL = 5
"""Number of failures whose logs are shown; of further ones, only the name and the log."""

WIDE = 60
"""Width of a terminal that has room for the time that a job has left, in characters."""

STOPPING = "stopping; running jobs save their state"


class View(ABC):
    """What a user sees of a run, on standard error."""

    def __init__(self, title: str) -> None:
        """Begin a view.

        Args:
            title: name of the experiment.
        """
        self.title = title
        self._began = time.monotonic()
        self._failures = 0

    @property
    def seconds(self) -> float:
        """Return the time since the view began."""
        return time.monotonic() - self._began

    @abstractmethod
    def say(self, text: str, style: str = "") -> None:
        """Print lines that stay.

        Args:
            text: the lines.
            style: colour and weight on a terminal, as rich names them.
        """

    @abstractmethod
    def show(self, jobs: Jobs, *, stopping: bool, doing: str = "") -> None:
        """Show the state of the run.

        Args:
            jobs: its jobs.
            stopping: whether it was asked to stop.
            doing: work that is no job, such as reading the workflow.
        """

    @abstractmethod
    def planned(self, jobs: Jobs) -> None:
        """Say how many jobs there are, unless that was said or the state of the run shows it."""

    @abstractmethod
    def finished(self, job: Job, jobs: Jobs) -> None:
        """Say that a job has finished, unless the state of the run shows it."""

    def warn(self, text: str) -> None:
        """Say a warning of Snakemake."""
        self.say(f"warning: {shortened(plain(' '.join(text.split())))}", "yellow")

    def failed(self, failure: Failure) -> None:
        """Say that a job has failed, and what its log says."""
        self._failures += 1
        job, reason = failure.job, failure.reason.splitlines()
        short = f": {reason[0]}" if len(reason) == 1 and len(reason[0]) < 40 else ""
        self.say(f"failed after {clock(job.seconds)}: {job.name}{short}", "bold red")
        if self._failures <= FAILURES_IN_FULL:
            for line in failure.lines or ([] if short else reason):
                self.say(f"    {shortened(plain(line))}")
        if failure.log is not None:
            self.say(f"  log: {relative(str(failure.log))}")


class Lines(View):
    """Plain lines, for a pipe, a file, or a terminal that cannot move its cursor."""

    def __init__(self, title: str) -> None:
        """Begin the view."""
        super().__init__(title)
        self._said = time.monotonic()
        self._planned = self._stopping = False

    def say(self, text: str, style: str = "") -> None:
        """Print lines."""
        self._said = time.monotonic()
        # The run goes on if nobody reads any more.
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)

    def planned(self, jobs: Jobs) -> None:
        """Say once how many jobs there are."""
        if jobs.total is not None and not self._planned:
            self._planned = True
            self.say(f"{self.title}: {counted(jobs.total)} to run")

    def show(self, jobs: Jobs, *, stopping: bool, doing: str = "") -> None:
        """Say what is running if that takes long."""
        if stopping and not self._stopping:
            self._stopping = True
            self.say(STOPPING)
        if jobs.running and time.monotonic() - self._said > SECONDS_OF_SILENCE:
            parts = [" ".join([job.name, *progress_words(job)]) for job in jobs.running.values()]
            self.say(f"[{jobs.done}/{jobs.total}] running: {', '.join(parts)}")

    def finished(self, job: Job, jobs: Jobs) -> None:
        """Say that a job has finished."""
        self.say(f"[{jobs.done}/{jobs.total}] {job.name}  {clock(job.seconds)}")


class Terminal(View):
    """Some lines at the bottom of a terminal: all jobs in a bar, and a line per running job."""

    def __init__(self, title: str, live: "Live") -> None:
        """Begin the view on a live display of rich."""
        super().__init__(title)
        self._live = live

    def say(self, text: str, style: str = "") -> None:
        """Print lines above those that are drawn again."""
        from rich.text import Text

        with suppress(OSError, ValueError):
            self._live.console.print(Text(text, style), soft_wrap=True)

    def show(self, jobs: Jobs, *, stopping: bool, doing: str = "") -> None:
        """Draw the lines again."""
        width, height = self._live.console.size
        with suppress(OSError, ValueError):
            drawn = self._lines(jobs, width, height, STOPPING if stopping else doing)
            self._live.update(drawn, refresh=True)

    def planned(self, jobs: Jobs) -> None:
        """Say nothing: the bar shows it."""

    def finished(self, job: Job, jobs: Jobs) -> None:
        """Say nothing: a line per finished job would not be calm."""

    def _lines(self, jobs: Jobs, width: int, height: int, doing: str) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        lines: list[RenderableType] = [self._head(jobs, width)]
        room = max(1, height - 4)
        running = list(jobs.running.values())
        if doing and not running:
            lines.append(_line(f"  {doing}", "dim"))
        shown = running if len(running) <= room else running[: room - 1]
        rules = max((len(job.rule) for job in shown), default=0)
        about = max((len(job.about) for job in shown), default=0)
        lines += [job_line(job, jobs.seconds(job), rules, about, width) for job in shown]
        if len(shown) < len(running):
            lines.append(Text(f"  and {len(running) - len(shown)} more running", "dim"))
        if running:
            hint = doing or "Ctrl-C stops; the same command continues"
            lines.append(_line(f"  {hint}", "yellow" if doing else "dim"))
        return Group(*lines)

    def _head(self, jobs: Jobs, width: int) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        words = self.title
        if jobs.total is not None:
            words += f"  {jobs.done} of {jobs.total} jobs done"
        if jobs.failed:
            words += f", {len(jobs.failed)} failed"
        time_passed = clock(self.seconds)
        bar = min(40, width - len(words) - len(time_passed) - 4)
        if jobs.total is None or bar < 5:
            return _line(f"{words}  {time_passed}", "bold")
        head = Table.grid(padding=(0, 2, 0, 0))
        head.add_row(
            _line(words, "bold"),
            ProgressBar(total=max(1, jobs.total), completed=jobs.done, width=bar),
            time_passed,
        )
        return head


@contextmanager
def opened_view(title: str) -> Iterator[View]:
    """Show a run on standard error, until the context ends.

    Args:
        title: name of the experiment.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield Lines(title)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    live = Live(
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with suppress(OSError):
        live.start()
    try:
        yield Terminal(title, live)
    finally:
        with suppress(OSError):
            live.stop()


def job_line(job: Job, seconds: float, rules: int, about: int, width: int) -> "Text":
    """Return the line of a running job, which fits into a width.

    Args:
        job: the job.
        seconds: how long it has been running.
        rules: width of the column of rules, in characters.
        about: width of the column of wildcards if there is room, in characters.
        width: width of the line, in characters.
    """
    fraction = None if job.progress is None else job.progress.fraction
    left = None if job.progress is None else job.progress.seconds_left
    numbers = f"{'' if fraction is None else f'{100 * fraction:.0f}%':>4}  {clock(seconds):>5}"
    if width >= WIDE:
        numbers += f"  {'' if left is None else f'{clock(left)} left':<12}"
    rules = min(rules, max(8, width - len(numbers) - 4))
    rule = job.rule if len(job.rule) <= rules else f"{job.rule[: rules - 3]}..."
    room = max(0, width - rules - len(numbers) - 6)
    about = min(about, room) if room >= 8 else 0
    names = [rule.ljust(rules), end_of(job.about, about).ljust(about)]
    text = "  ".join(["", *(names if about else names[:1]), numbers])
    rest = job.progress.last.rest if job.progress is not None and job.progress.last else ""
    if rest and len(text) + len(rest) + 1 <= width:
        text += rest
    return _line(text)


def progress_words(job: Job) -> list[str]:
    """Return the progress of a job in words, for a plain line."""
    if job.progress is None or job.progress.fraction is None:
        return []
    left = job.progress.seconds_left
    words = [f"{100 * job.progress.fraction:.0f}%"]
    return words if left is None else [*words, f"({clock(left)} left)"]


def end_of(text: str, width: int) -> str:
    """Return a text, or as much of its end as fits: there it differs from its neighbours."""
    return text if len(text) <= width else f"...{text[len(text) - width + 3 :]}"


def counted(jobs: int) -> str:
    """Return a number of jobs in words."""
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, or as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def relative(path: str) -> str:
    """Return a path as a user would type it here."""
    inside = os.path.relpath(path)
    return path if inside.startswith(os.pardir) else inside


def _line(text: str, style: str = "") -> "Text":
    from rich.text import Text

    return Text(text, style, no_wrap=True, overflow="ellipsis")
