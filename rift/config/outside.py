"""Architectures from outside: functions in files of the user, named ``MODULE:FUNCTION``.

This module finds files, and runs none of them.
"""

import hashlib
import os
import re
from importlib.machinery import PathFinder
from pathlib import Path

from rift.config.names import OUTSIDE_NETWORK, TIMM
from rift.errors import RiftError

NAMED = "RIFT_ARCHITECTURES"
"""Environment variable: architectures from outside, separated by commas, that may run."""


def is_outside(architecture: str) -> bool:
    """Return whether the name of an architecture is ``MODULE:FUNCTION``."""
    return not architecture.startswith(TIMM) and bool(re.match(OUTSIDE_NETWORK, architecture))


def code_file(architecture: str) -> Path:
    """Return the file with the function of an architecture from outside, without running it.

    It lies in the working directory: ``nets.py`` or ``nets/__init__.py`` for ``nets:build``, and
    ``nets/small.py`` for ``nets.small:build``.

    Raises:
        RiftError: there is no such file in the working directory.
    """
    module = architecture.split(":")[0]
    places: list[str] = [str(Path.cwd())]
    found = None
    for part in module.split("."):
        found = PathFinder.find_spec(part, places)
        places = list(found.submodule_search_locations or []) if found else []
    if found is None and module.endswith(".py"):
        raise RiftError(f"{architecture}: names a file; write {architecture.replace('.py:', ':')}")
    if found is None or not found.origin or not found.origin.endswith(".py"):
        raise RiftError(
            f"{architecture}: the working directory {Path.cwd()} has no module"
            f" {module}; write its function to {module.replace('.', '/')}.py there, or correct the"
            " name"
        )
    return Path(found.origin).relative_to(Path.cwd())


def code_digest(architecture: str) -> str:
    """Return the sha256 of the file of an architecture from outside.

    Raises:
        RiftError: there is no such file.
    """
    return hashlib.sha256(code_file(architecture).read_bytes()).hexdigest()


def check_named(architecture: str, source: str) -> None:
    """Check that the user named an architecture from outside, and not just a file of weights.

    Args:
        architecture: ``MODULE:FUNCTION``.
        source: file that names it.

    Raises:
        RiftError: the environment variable ``RIFT_ARCHITECTURES`` does not contain it.
    """
    if architecture not in os.environ.get(NAMED, "").split(","):
        raise RiftError(
            f"{source}: its network is {architecture}, a function of a file in the working"
            f" directory; if you trust that file, set {NAMED}={architecture}"
        )
