"""What the log of a job says: its progress, and its last lines."""

import os
import re
import stat
import time
from pathlib import Path

from rift.progress import Line, read_line

CHUNK = 1 << 16
"""Bytes that are read from a log at once, at most."""

WIDEST = 400
"""Characters of a line that are shown, at most."""

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)?")


class LogProgress:
    """The progress that a job reports in its log, which is read while it grows."""

    def __init__(self, path: Path, since: float) -> None:
        """Begin with a log.

        Args:
            path: file of the log; it may be missing, or not be text.
            since: time at which the job began, in seconds since the epoch. A log that was not
                written since is that of an earlier job.
        """
        self._path, self._since = path, since
        self._restart()

    def _restart(self) -> None:
        self._position = 0
        self._unfinished = b""
        self._first: Line | None = None
        self.last: Line | None = None
        self._seen = 0.0

    def read(self) -> None:
        """Read what was written since the last call."""
        chunk = self._new_bytes()
        # Bars separate their states by carriage returns.
        *lines, self._unfinished = re.split(rb"[\r\n]", self._unfinished + chunk)
        self._unfinished = self._unfinished[-CHUNK:]
        for text in lines:
            line = read_line(plain(text[:CHUNK].decode("utf-8", "replace")))
            if line is not None:
                self._take(line)

    def _take(self, line: Line) -> None:
        first, last = self._first, self.last
        continues = last is not None and (last.stage, last.total) == (line.stage, line.total)
        if first is None or last is None or not continues or line.done < last.done:
            self._first = line
        self.last, self._seen = line, time.monotonic()

    def _new_bytes(self) -> bytes:
        try:
            status = self._path.stat()
            # Opening a pipe would wait for its other end.
            if not stat.S_ISREG(status.st_mode) or status.st_mtime < self._since - 1:
                return b""
            if status.st_size < self._position:
                self._restart()
            if status.st_size == self._position:
                return b""
            with self._path.open("rb") as file:
                self._position = max(self._position, status.st_size - CHUNK)
                file.seek(self._position)
                chunk = file.read(CHUNK)
        except OSError:
            return b""
        self._position += len(chunk)
        return chunk

    @property
    def fraction(self) -> float | None:
        """Return the finished share of the work, from 0 to 1, or None if it is unknown."""
        return None if self.last is None else self.last.done / self.last.total

    @property
    def seconds_left(self) -> float | None:
        """Return the estimated time until the work is finished, or None if it is unknown.

        The pace is that between the first and the last line. A stage that continued after an
        interruption did not do all of its work in the time that its lines name.
        """
        first, last = self._first, self.last
        if first is None or last is None or last.seconds <= first.seconds:
            return None
        if last.done <= first.done:
            return None
        pace = (last.done - first.done) / (last.seconds - first.seconds)
        return max(0.0, (last.total - last.done) / pace - (time.monotonic() - self._seen))


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a text file that are not empty, without control characters.

    The list is empty if the file is missing, empty, or not text.

    Args:
        path: file to read.
        count: largest number of lines.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return []
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - CHUNK))
            end = file.read(CHUNK)
    except OSError:
        return []
    if b"\0" in end:
        return []
    lines = [plain(line).rstrip() for line in re.split(r"[\r\n]", end.decode("utf-8", "replace"))]
    return [shortened(line) for line in lines if line][-count:]


def plain(text: str) -> str:
    """Return a text without escape sequences and control characters, which move a cursor."""
    text = _ESCAPES.sub("", text).expandtabs(4)
    return "".join(character for character in text if character.isprintable())


def shortened(text: str) -> str:
    """Return at most the first ``WIDEST`` characters of a line."""
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."
