"""Going on after an interruption, for every long stage.

``with resumable(output, begun_with) as work`` locks the output, finds the state that an earlier process
left, and removes that state at the end. The stage calls ``work.save`` whenever it can go on from a point.
SIGTERM and SIGINT save at the next such point and end the process with a non-zero status, so that the
same command, or the same workflow, goes on.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from rift.artifacts.files import locked, reading, remove_leftovers, replacing
from rift.config.values import leaves
from rift.errors import RiftError, Stopped

State = dict[str, Any]
"""Everything that another process needs to go on: tensors, numbers, texts, and lists and dicts of them."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Work:
    """A stage under way.

    Attributes:
        state: what an earlier process saved; None if there was none.
    """

    def __init__(
        self,
        file: Path | None = None,
        begun_with: Mapping[str, Any] | None = None,
        *,
        save_minutes: float = float("inf"),
        at_once: bool = False,
    ) -> None:
        self.state: State | None = None
        self._file = file
        self._begun_with = dict(begun_with or {})
        self._seconds = 60 * save_minutes
        self._saved_at = time.monotonic()
        self._signal: int | None = None
        self._at_once = at_once

    @property
    def asked_to_stop(self) -> bool:
        """Return whether a signal has asked the process to stop."""
        return self._signal is not None

    @property
    def is_due(self) -> bool:
        """Return whether the state should be saved now: after a signal, or after enough minutes."""
        return self.asked_to_stop or time.monotonic() - self._saved_at >= self._seconds

    def save(self, state: State) -> None:
        """Write the state; then stop if a signal asked for it.

        Raises:
            Stopped: after a signal.
            RiftError: the state cannot be written.
        """
        if self._file is not None:
            write_state(self._file, {"begun_with": self._begun_with, "run": state})
        self._saved_at = time.monotonic()
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """End the stage if a signal asked for it.

        Raises:
            Stopped: it did.
        """
        if self._signal is not None:
            raise Stopped(self._signal)

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal; stop at once after a second one, or where the stage asks for it."""
        repeated = self._signal is not None
        self._signal = number
        if repeated or self._at_once:
            raise Stopped(number)


@contextmanager
def resumable(
    output: Path,
    begun_with: Mapping[str, Any],
    *,
    save_minutes: float = 10.0,
    at_once: bool = False,
    writes: bool = True,
) -> Iterator[Work]:
    """Let a stage go on from where an earlier process was interrupted.

    Args:
        output: what the stage writes at its end; the state is in ``OUTPUT.state`` until then.
        begun_with: everything that the result depends on; a state that began with something else is
            refused.
        save_minutes: minutes after which ``Work.is_due`` asks for a save.
        at_once: a signal stops the stage where it is. Without it, a signal waits for the next save,
            which a stage with short steps reaches within seconds.
        writes: whether this process saves; of several that train together only the first does.

    Raises:
        RiftError: another process works on the output, or the state cannot be used.
        Stopped: within, after SIGTERM or SIGINT.
    """
    file = output.with_name(f"{output.name}.state")
    lock = output.with_name(f"{output.name}.lock")
    with locked(lock) if writes else nullcontext():
        work = Work(
            file if writes else None, begun_with, save_minutes=save_minutes, at_once=at_once
        )
        work.state = _saved_state(file, begun_with) if file.exists() else None
        if writes:
            remove_leftovers(file)
        with _signals(work):
            yield work
        if writes:
            file.unlink(missing_ok=True)


@contextmanager
def _signals(work: Work) -> Iterator[None]:
    """Deliver SIGTERM and SIGINT to the work; only the main thread can receive them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    try:
        before.update({each: signal.signal(each, work.receive) for each in SIGNALS})
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _saved_state(file: Path, begun_with: Mapping[str, Any]) -> State:
    """Read the state of an interrupted stage.

    Raises:
        RiftError: it cannot be read, or began with other settings.
    """
    content = read_state(file, ("begun_with", "run"))
    before, now = (leaves(settings) for settings in (content["begun_with"], begun_with))
    differing = [
        f"{key} (was {before.get(key)!r}, now {now.get(key)!r})"
        for key in dict.fromkeys((*before, *now))
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise RiftError(
            f"{file}: was begun with other settings: {', '.join(differing)}; set these back to go on,"
            " or delete it to begin again"
        )
    state: State = content["run"]
    return state


def write_state(path: Path, state: Mapping[str, object]) -> None:
    """Write the state of a stage: tensors, numbers, texts, and lists and dicts of them."""
    import torch

    with replacing(path) as temporary:
        torch.save(dict(state), temporary)


def read_state(path: Path, keys: tuple[str, ...]) -> State:
    """Read a state and make sure that it has these keys.

    Raises:
        RiftError: it cannot be read, or lacks a key.
    """
    import torch

    def load() -> State:
        return dict(torch.load(path, map_location="cpu", weights_only=True))

    state = reading(path, load)
    missing = [key for key in keys if key not in state]
    if missing:
        raise RiftError(f"{path}: contains no {', '.join(missing)}; delete it to begin again")
    return state
