"""Errors that a user can do something about, and requests to stop."""

import errno
import re
import signal


class RiftError(Exception):
    """A problem with a message that says what is wrong and what to do."""


class Stopped(BaseException):
    """A signal asked the process to stop; what can be saved has been saved.

    It is no ``Exception``, so that code which handles errors does not catch it.

    Attributes:
        signal: SIGTERM or SIGINT.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal = signal_number

    @property
    def exit_status(self) -> int:
        """Return the exit status that shells expect: 128 and the signal's number."""
        return 128 + self.signal


OUT_OF_MEMORY = re.compile(
    r"out of memory|(can't|cannot) allocate memory|bad_alloc|_ALLOC_FAILED|not enough memory"
    # oneDNN says no more than this when its memory cannot be allocated.
    r"|could not create a (memory|primitive)|could not execute a primitive",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python, torch or oneDNN says that there is too little memory."""
    # Only the text identifies most of them: torch defines their class, and may not be imported.
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(str(error))))
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
