"""A program in a pseudo-terminal, and the screen that a user sees."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from select import select

_CODE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Screen:
    """A terminal with unlimited scrollback that knows the few codes that views use."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows, self.row, self.column = [""], 0, 0
        self.cursor_visible = True
        self.colours: set[str] = set()
        self._rest = ""

    def feed(self, text: str) -> None:
        """Take what a program writes."""
        text, self._rest = self._rest + text, ""
        while text:
            match = _CODE.match(text)
            if match is not None:
                self._code(match[1], match[2])
                text = text[match.end() :]
            elif text[0] == "\x1b" and len(text) < 10:
                self._rest, text = text, ""
            else:
                assert text[0] != "\x1b", text[:20]
                self._put(text[0])
                text = text[1:]

    def _code(self, numbers: str, code: str) -> None:
        if code == "A":
            self.row = max(0, self.row - int(numbers or 1))
        elif code == "K":
            assert numbers == "2"
            self.rows[self.row] = ""
        elif code == "m":
            parts = {part for part in numbers.split(";") if part}
            self.colours |= {part for part in parts if part[0] in "349" and len(part) > 1}
        elif code in "lh" and numbers == "?25":
            self.cursor_visible = code == "h"
        else:
            raise AssertionError(f"unknown code {numbers}{code}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
        else:
            if self.column == self.columns:
                self.row, self.column = self.row + 1, 0
            while len(self.rows) <= self.row:
                self.rows.append("")
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1
        while len(self.rows) <= self.row:
            self.rows.append("")

    @property
    def text(self) -> str:
        """Return all lines, without empty ones at the end."""
        return "\n".join(row.rstrip() for row in self.rows).rstrip()


def _heed_signals() -> None:
    """Undo what nohup or a shell in the background did to this process."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """A program that runs in a pseudo-terminal.

    Attributes:
        process: its process.
        screen: the screen.
        seen: different states of the screen, in the order of time.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        columns: int = 80,
        rows: int = 24,
    ) -> None:
        self.screen, self.seen = Screen(columns), list[str]()
        self._end, child = pty.openpty()
        self.resize(columns, rows)
        # These variables, which readline sets, would hide the size of this terminal.
        wanted = {**os.environ, "TERM": "xterm-256color", **environment}
        own = {key: text for key, text in wanted.items() if key not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=own,
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
            preexec_fn=_heed_signals,
        )
        os.close(child)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the terminal."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.columns = columns

    def wait(self, until: Callable[[str], object] = lambda _: False, seconds: float = 120) -> bool:
        """Read the screen until it shows something, or the program ends; return whether it does."""
        limit = time.monotonic() + seconds
        while not until(self.screen.text):
            assert time.monotonic() < limit, self.screen.text
            if not select([self._end], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(self._end, 1 << 16)
            except OSError:  # the program has ended
                self.process.wait()
                return bool(until(self.screen.text))
            self.screen.feed(data.decode("utf-8", "replace"))
            if not self.seen or self.seen[-1] != self.screen.text:
                self.seen.append(self.screen.text)
        return True
