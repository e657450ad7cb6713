"""Progress of long stages: a bar on a terminal, plain lines in a log.

The core reports by calling a ``Progress``; it prints nothing itself.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, SupportsFloat

SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    def __call__(self, done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
        """Say that ``done`` of ``total`` units of work (epochs, passes, images …) are behind us.

        Figures may be tensors: they are read only when they are shown. A note is worth a line of its own in a log.
        """


def no_progress(done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
    """Report to nobody."""


def part_of(progress: Progress, number: int, units: int) -> Progress:
    """Make a progress for the work on one unit, ``number`` (from 1) of ``units``, that moves the whole along."""

    def within(done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
        progress(number - 1 + done / total, units, note, **figures)

    return within


@contextmanager
def display(stage: str) -> Iterator[Progress]:
    """Show the progress of a stage on standard error: a bar if that is a terminal, else plain lines."""
    if sys.stderr.isatty():
        with _bar(stage) as progress:
            yield progress
    else:
        yield _lines(stage)


def _text(figures: dict[str, SupportsFloat]) -> str:
    return "  ".join(
        f"{name.replace('_', ' ')} {float(value):.4g}" for name, value in figures.items()
    )


def hidden(stage: str) -> AbstractContextManager[Progress]:
    """Show no progress."""
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


def _lines(stage: str) -> Progress:
    begun = last = time.monotonic()

    def progress(done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
        nonlocal last
        now = time.monotonic()
        if note or now - last >= SECONDS_BETWEEN_LINES:
            parts = [f"{stage}: {done:.4g}/{total}", f"{now - begun:.0f} s", note, _text(figures)]
            print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)
            last = now

    return progress
