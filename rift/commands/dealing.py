"""GPUs of one machine, dealt to the jobs of workflows.

A workflow says by an environment variable how many GPUs its machine has. Every job locks as many as
it uses, and sees no others. A lock ends with its process, even if that is killed.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from rift.commands.command import say
from rift.errors import RiftError
from rift.thirdparty import environment_variable

GPUS = "RIFT_GPUS"
"""Environment variable: number of GPUs that are dealt. Without it, none are."""

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""CUDA's own variable: the GPUs that a process sees, by number or name."""

PAUSE = 0.5
"""Seconds between two tries to get GPUs that other jobs hold."""


@contextmanager
def dealt_gpus(count: int) -> Iterator[None]:
    """Let this process and its children see some GPUs that no other job sees.

    It waits while others hold them. It must come before torch looks for GPUs.

    Args:
        count: number of GPUs that the job uses; 0 for none.

    Raises:
        RiftError: the environment variable is no number, the machine lets fewer GPUs be seen, or
            the folder of locks belongs to somebody else.
    """
    there = _gpus() if count else []
    if not there:
        yield
        return
    with ExitStack() as held:
        names = _locked(held, there, min(count, len(there)))
        held.enter_context(environment_variable(VISIBLE, ",".join(names)))
        say(f"GPU {' and '.join(names)} of {len(there)}")
        yield


def _gpus() -> list[str]:
    """Return the names of the GPUs that are dealt."""
    text = os.environ.get(GPUS, "")
    if not text:
        return []
    if not text.isdecimal():
        raise RiftError(f"{GPUS}={text}: must be the number of GPUs of this machine; correct it")
    seen = os.environ.get(VISIBLE)
    if seen is None:
        return [str(number) for number in range(int(text))]
    names = [name.strip() for name in seen.split(",") if name.strip()]
    if names in ([], ["-1"]):
        # The usual ways to hide all GPUs: jobs compute on the CPU.
        return []
    if len(names) < int(text):
        raise RiftError(
            f"{text} GPUs are dealt to the jobs, but {VISIBLE}={seen} shows {len(names)}; lower the"
            " resource gpu, or show more GPUs"
        )
    return names[: int(text)]


def _locked(held: ExitStack, there: list[str], count: int) -> list[str]:
    """Lock some GPUs, as soon as enough are free, and return their names."""
    folder = _folder()
    while True:
        with ExitStack() as tried:
            # One job at a time tries: two that need several would otherwise hold half of them each.
            turn = tried.enter_context((folder / "turn").open("ab"))
            fcntl.flock(turn, fcntl.LOCK_EX)
            locks = tried.enter_context(ExitStack())
            free = (name for name in there if _lock(locks, _lock_of(name, folder)))
            names = [*islice(free, count)]
            if len(names) == count:
                held.enter_context(locks.pop_all())
                return names
        time.sleep(PAUSE)


def _lock_of(name: str, folder: Path) -> Path:
    """Return the file of a GPU's lock; names of parts of GPUs contain slashes."""
    return folder / f"{name.replace('/', '-')}.lock"


def _lock(locks: ExitStack, path: Path) -> bool:
    """Try to lock a file until the stack is closed, and return whether it worked."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    locks.enter_context(file)
    return True


def _folder() -> Path:
    """Return the folder of the locks, which all workflows of a user on this machine share."""
    folder = Path(tempfile.gettempdir(), f"rift-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
        raise RiftError(f"{folder}: belongs to another user; remove it, or set TMPDIR")
    return folder
