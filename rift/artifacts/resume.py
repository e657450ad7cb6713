"""Continuation of long stages after an interruption.

``with resumable(output, begun_with) as work`` locks the output, reads the state that an earlier
process saved, and removes this state at the end. The stage calls ``work.save`` at every point that
it can continue from. After SIGTERM or SIGINT, the process saves at the next of these points and
exits with a non-zero status. The same command, or the same workflow, then continues. The state
before the last one stays on the disk. It serves if the last one is damaged.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from rift.artifacts.files import locked, remove_leftovers
from rift.artifacts.states import State as State
from rift.artifacts.states import previous_state, read_state, remove_states, replace_state
from rift.config.values import flag_text, leaves
from rift.errors import RiftError, Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Work:
    """A running stage, which saves its state and reacts to signals.

    Attributes:
        state: state that an earlier process saved; None if there is none.
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
        """Return whether to save the state now: after a signal, or after ``save_minutes``."""
        return self.asked_to_stop or time.monotonic() - self._saved_at >= self._seconds

    def save(self, state: State) -> None:
        """Write the state, then stop if a signal asked for it.

        Raises:
            Stopped: a signal asked the process to stop.
            RiftError: the state cannot be written.
        """
        if self._file is not None:
            replace_state(self._file, {"begun_with": self._begun_with, "run": state})
        self._saved_at = time.monotonic()
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """End the stage if a signal asked for it.

        Raises:
            Stopped: a signal asked the process to stop.
        """
        if self._signal is not None:
            raise Stopped(self._signal)

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Record a signal, and stop at once with ``at_once`` or after a second Ctrl-C.

        Slurm sends SIGTERM several times, to a job and to its steps: all mean the same stop.

        Raises:
            Stopped: the process stops at once.
        """
        repeated = self._signal is not None and number == signal.SIGINT
        self._signal = number
        if repeated or self._at_once:
            raise Stopped(number)

    def saving_often(self) -> AbstractContextManager[None]:
        """Return a context in which a signal stops the stage at the next save, and not at once."""
        return self._stopping_at_saves()

    @contextmanager
    def _stopping_at_saves(self) -> Iterator[None]:
        before, self._at_once = self._at_once, False
        try:
            yield
        finally:
            self._at_once = before
        self.stop_if_asked()

    def step(self, name: str, compute: Callable[["Work"], Any]) -> Any:
        """Return the result of one step of the stage, and compute it only once.

        The state of a stage of several steps contains the results of the finished ones.

        Args:
            name: name of the step, different from those of the other steps.
            compute: function that computes the result: tensors, numbers, strings, lists and dicts.
                Its argument is the work of this step alone, with a state of its own.

        Raises:
            Stopped: a signal asked the process to stop.
            RiftError: the state cannot be written.
        """
        steps = self.state = dict(self.state or {})
        if _RESULT not in steps.get(name, {}):
            steps[name] = {_RESULT: compute(_Step(self, name))}
            self.save(steps)
        return steps[name][_RESULT]


_RESULT, _RUNNING = "result", "running"


class _Step(Work):
    """One step of a stage; its states lie next to the results of the steps before."""

    def __init__(self, whole: Work, name: str) -> None:
        super().__init__()
        self._whole, self._name = whole, name
        self.state = (whole.state or {}).get(name, {}).get(_RUNNING)

    @property
    def asked_to_stop(self) -> bool:
        return self._whole.asked_to_stop

    @property
    def is_due(self) -> bool:
        return self._whole.is_due

    def save(self, state: State) -> None:
        self._whole.save({**(self._whole.state or {}), self._name: {_RUNNING: state}})

    def stop_if_asked(self) -> None:
        self._whole.stop_if_asked()

    def saving_often(self) -> AbstractContextManager[None]:
        return self._whole.saving_often()


@contextmanager
def resumable(
    output: Path,
    begun_with: Mapping[str, Any],
    *,
    save_minutes: float = 10.0,
    at_once: bool = False,
    writes: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Work]:
    """Return a context in which a stage continues from the state of an interrupted process.

    Args:
        output: file that the stage writes at its end; before this, ``OUTPUT.state`` contains the
            state.
        begun_with: everything that the result depends on; a state with other values is refused.
        save_minutes: minutes between saves, for ``Work.is_due``.
        at_once: whether a signal stops the stage immediately. If not, the stage stops at the next
            save, which a stage with short steps reaches within seconds.
        writes: whether this process saves; of several processes that train together, only the first
            saves.
        tell: function that is called with a line of text if a state is damaged.

    Raises:
        RiftError: another process works on the output, or the state has other settings.
        Stopped: a signal asked the process to stop, within the context.
    """
    file = output.with_name(f"{output.name}.state")
    lock = output.with_name(f"{output.name}.lock")
    with locked(lock) if writes else nullcontext():
        work = Work(
            file if writes else None, begun_with, save_minutes=save_minutes, at_once=at_once
        )
        work.state = _saved_state(file, begun_with, tell)
        if writes:
            remove_leftovers(file)
        with _signals(work):
            yield work
        if writes:
            remove_states(file)


@contextmanager
def _signals(work: Work) -> Iterator[None]:
    """Pass SIGTERM and SIGINT to the work; only the main thread can install signal handlers."""
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


def _saved_state(
    file: Path, begun_with: Mapping[str, Any], tell: Callable[[str], None]
) -> State | None:
    """Return the last state of an interrupted stage that is intact; None if there is none.

    Raises:
        RiftError: it is the state of a run with other settings.
    """
    # A process that is killed between two renames leaves only the state before the last one.
    existing = [each for each in (file, previous_state(file)) if each.exists()]
    for each in existing:
        try:
            content = read_state(each, ("begun_with", "run"))
        except RiftError as error:
            tell(f"warning: {error}".partition(";")[0])
            continue
        if each != existing[0]:
            tell(f"warning: continuing from the state before it, {each}")
        return _of_same_settings(each, content, begun_with)
    if existing:
        tell("warning: no saved state is intact; starting from the beginning")
    return None


def _of_same_settings(file: Path, content: State, begun_with: Mapping[str, Any]) -> State:
    """Return the saved state of a run, which must have begun with the same settings.

    Raises:
        RiftError: it began with other settings.
    """
    if not all(isinstance(content[key], dict) for key in ("begun_with", "run")):
        raise RiftError(f"{file}: is no state of a stage; delete the file to start again")
    if differing := differing_flags(content["begun_with"], begun_with):
        raise RiftError(
            f"{file}: was saved with other settings: {', '.join(differing)}; restore them to"
            " continue, or delete the file to start again"
        )
    state: State = content["run"]
    return state


def differing_flags(begun_with: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the flags whose values differ, with both values.

    Args:
        begun_with: facts that earlier work began with.
        wanted: facts of the present command.
    """
    before, now = leaves(begun_with), leaves(wanted)
    return [
        f"{_flag(key)} (was {_shown(key, before)}, now {_shown(key, now)})"
        for key in dict.fromkeys((*before, *now))
        if before.get(key) != now.get(key)
    ]


def _flag(key: str) -> str:
    """Return the flag of a fact that a state began with, or a description if it has none."""
    section, _, name = key.partition(".")
    if key.startswith("inputs.init."):
        return f"--train.init {key.removeprefix('inputs.init.')}"
    if section in ("settings", "inputs"):
        return f"--{name}"
    return {"version": "the version of the stage", "stage": "the stage"}.get(key, f"--{key}")


def _shown(key: str, facts: Mapping[str, Any]) -> str:
    """Return the value of a fact; the digest of an input is shortened."""
    if key not in facts:
        return "not set"
    value = facts[key]
    return f"content {str(value)[:12]}" if key.startswith("inputs.") else flag_text(value)
