"""The attempts of a job, as its log records them.

Snakemake measures only the attempt that ended well. The log of a job contains all of its attempts:
each begins with its date and ends with its seconds.
"""

import re
from pathlib import Path
from typing import NamedTuple

from rift.artifacts.files import reading

ADOPTED = "already finished with the same settings and inputs: adopted"
"""Words in the log of an attempt that took over the outputs of the one before."""

_BEGIN = re.compile(r"^-- (?P<begin>\d{4}-\S+) on ", re.MULTILINE)
_END = re.compile(
    r"^(?P<how>finished|ended unfinished) after (?P<seconds>[0-9.]+) s$", re.MULTILINE
)


class Attempt(NamedTuple):
    """An attempt of a job.

    Attributes:
        begin: date of its begin, in ISO format.
        seconds: seconds that it took; None if its end is not recorded.
        finished: whether it ended well.
        adopted: whether it took over the outputs of the attempt before.
    """

    begin: str
    seconds: float | None
    finished: bool
    adopted: bool


def end_of_attempt(seconds: float, *, finished: bool) -> str:
    """Return the line that ends an attempt in a log."""
    return f"{'finished' if finished else 'ended unfinished'} after {seconds:.1f} s"


def attempts_in(text: str) -> list[Attempt]:
    """Return the attempts that the text of a log contains, in their order."""
    begins = [*_BEGIN.finditer(text)]
    stops = [*(each.start() for each in begins[1:]), len(text)]
    attempts = []
    for begin, stop in zip(begins, stops, strict=True):
        body = text[begin.end() : stop]
        *_, end = [None, *_END.finditer(body)]
        seconds, finished = (
            (float(end["seconds"]), end["how"] == "finished") if end else (None, False)
        )
        attempts.append(Attempt(begin["begin"], seconds, finished, ADOPTED in body))
    return attempts


def earlier_seconds(log: Path) -> float:
    """Return the seconds of all attempts before the last one that worked on the same outputs.

    An attempt that ended well is not counted, unless a later one adopted its outputs: Snakemake
    then computed them again, with other settings for example. The result is zero if there is no
    log.

    Raises:
        RiftError: the log cannot be read.
    """
    if not log.exists():
        return 0.0
    attempts = attempts_in(reading(log, lambda: log.read_text(errors="replace")))
    total = 0.0
    for earlier, later in zip(attempts[-2::-1], attempts[:0:-1], strict=True):
        if earlier.finished and not later.adopted:
            break
        total += earlier.seconds or 0.0
    return total
