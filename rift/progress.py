"""Progress of long stages: a bar on a terminal or in a notebook, plain lines in a log.

The core reports by calling a ``Progress``; it prints nothing itself.
"""

import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple, Protocol, SupportsFloat

SECONDS_BETWEEN_LINES = 10.0
_LINE = re.compile(r"(.+?): ([0-9.e+]+)/([1-9][0-9]*)  ([0-9]+) s(?:  (.*))?")


class Progress(Protocol):
    """A function that receives the progress of a stage."""

    def __call__(self, done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
        """Receive that ``done`` of ``total`` units of work (epochs, passes, images …) are finished.

        Args:
            done: finished units.
            total: units in all.
            note: message that gets its own line in a log; may be empty.
            **figures: numbers to show, such as a loss. A tensor is read only when it is shown.
        """


def no_progress(done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
    """Ignore the progress."""


def part_of(progress: Progress, number: int, units: int) -> Progress:
    """Return a progress for one unit of a longer work, which reports to the progress of the whole.

    Args:
        progress: receives the progress of the whole.
        number: number of the unit, from 1.
        units: units in all.
    """

    def within(done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
        progress(number - 1 + done / total, units, note, **figures)

    return within


class Line(NamedTuple):
    """A line of progress in a log.

    Attributes:
        stage: name of the stage.
        done: finished units of work: 0 to ``total``.
        total: units of work in all.
        seconds: time since the stage began, or since it continued after an interruption.
        rest: message and figures, as they are in the line.
    """

    stage: str
    done: float
    total: int
    seconds: float
    rest: str


def read_line(text: str) -> Line | None:
    """Return the progress that a line of a log reports, or None if it reports none."""
    match = _LINE.fullmatch(text.strip())
    try:
        stage, done, total, seconds, rest = match.groups() if match else ()
        line = Line(stage, float(done), int(total), float(seconds), rest or "")
    except ValueError:
        return None
    return line if line.done <= line.total else None


@contextmanager
def display(stage: str) -> Iterator[Progress]:
    """Show the progress of a stage: a bar on a terminal or in a notebook, otherwise lines.

    All of it goes to standard error.
    """
    if sys.stderr.isatty():
        with _bar(stage) as progress:
            yield progress
    elif "ipykernel" in sys.modules:
        with _notebook_bar(stage) as progress:
            yield progress
    else:
        yield _lines(stage)


def _text(figures: dict[str, SupportsFloat]) -> str:
    return "  ".join(
        f"{name.replace('_', ' ')} {float(value):.4g}" for name, value in figures.items()
    )


def hidden(stage: str) -> AbstractContextManager[Progress]:
    """Show no progress of a stage."""
    return nullcontext(no_progress)


@contextmanager
def _bar(stage: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(stage, total=None, figures="")

        def progress(done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
            if note:
                bar.console.print(f"{stage}: {note}", highlight=False)
            bar.update(task, completed=done, total=total, figures=_text(figures))

        yield progress


@contextmanager
def _notebook_bar(stage: str) -> Iterator[Progress]:
    # Without ipywidgets, rich shows nothing in a notebook, and tqdm a bar of text and a warning.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    look = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(total=1, desc=stage, bar_format=look) as bar:

        def progress(done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
            bar.total = total
            bar.set_postfix_str(note or _text(figures), refresh=False)
            bar.update(done - bar.n)

        yield progress


def _lines(stage: str) -> Progress:
    start = last = time.monotonic()

    def progress(done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
        nonlocal last
        now = time.monotonic()
        # The first lines follow one another sooner: short jobs show progress, too.
        wait = min(SECONDS_BETWEEN_LINES, max(1.0, (now - start) / 2))
        if note or now - last >= wait:
            parts = [f"{stage}: {done:.4g}/{total}", f"{now - start:.0f} s", note, _text(figures)]
            print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)
            last = now

    return progress
