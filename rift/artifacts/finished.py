"""Second names of finished outputs, from which they are adopted after their removal.

A workflow that was killed removes the outputs of the jobs that ran at that time, even those that
finished later. A long stage therefore gives its outputs a second name (a hard link, which takes no
space). The same command adopts them from there, if settings, inputs and versions are the same.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from rift.artifacts.checking import checked_provenance
from rift.artifacts.provenance import Provenance
from rift.errors import RiftError

_SAME = ("stage", "version", "settings", "seed", "inputs", "rift", "commit", "torch")


def finished_name(path: Path) -> Path:
    """Return the second name of an output."""
    return path.with_name(f".{path.stem}.finished{path.suffix}")


def keep_finished(outputs: Sequence[Path]) -> None:
    """Give finished outputs their second names, where the file system has hard links."""
    for path in outputs:
        second = finished_name(path)
        with suppress(OSError):
            second.unlink(missing_ok=True)
            second.hardlink_to(path)


def forget_finished(outputs: Sequence[Path]) -> None:
    """Remove the second names of outputs that are no longer needed."""
    for path in outputs:
        with suppress(OSError):
            finished_name(path).unlink(missing_ok=True)


def adopt_finished(
    outputs: Sequence[Path], source: Callable[[], Provenance], *, just_made: bool = False
) -> bool:
    """Restore outputs from their second names, and return whether this was possible.

    All outputs must be absent, and all second names must be intact and of the same settings,
    inputs and versions. A checkout with changes has no version, so nothing of it is adopted.

    Args:
        outputs: outputs of a command.
        source: function that returns the provenance that the outputs would have now.
        just_made: whether outputs that exist are adopted where they are, because another process
            has made them since this one began.
    """
    if just_made and all(path.is_file() for path in outputs):
        seconds = list(outputs)
    else:
        seconds = [finished_name(path) for path in outputs]
        if any(path.exists() for path in outputs) or not all(path.is_file() for path in seconds):
            return False
    now = source()
    if str(now["commit"]).endswith("-dirty"):
        return False
    try:
        before = [checked_provenance(path) for path in seconds]
    except RiftError:
        return False
    if any(each.get(key) != now[key] for each in before for key in _SAME):
        return False
    try:
        for second, path in zip(seconds, outputs, strict=True):
            if path != second:
                path.hardlink_to(second)
            # A workflow compares dates.
            os.utime(path)
    except OSError:
        return False
    return True
