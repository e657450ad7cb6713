"""Errors that a user can do something about, and requests to stop."""

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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
