"""Where an artifact comes from."""

import functools
import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rift import __version__

Provenance = dict[str, Any]
"""``stage``, ``version`` of the stage, ``settings`` and their ``digest``, ``seed``, ``inputs`` (the digest of the content of
each), ``rift``, ``commit``, ``torch`` and ``device``; for outcomes also ``examples``."""


def provenance(
    stage: str,
    settings: Mapping[str, object],
    *,
    version: int = 1,
    seed: int | None = None,
    device: str | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Provenance:
    """Describe where an artifact comes from.

    Args:
        stage: name of the stage.
        settings: everything the stage depends on besides its input files, as JSON values.
        version: of the stage; it is raised when the stage computes other numbers.
        seed: seed of the run, where it has one.
        device: device that computed it, where there was one.
        inputs: digest of the content of each input, by its name.
    """
    text = json.dumps({"stage": stage, "version": version, "settings": settings}, sort_keys=True)
    return {
        "stage": stage,
        "version": version,
        "settings": dict(settings),
        "digest": hashlib.sha256(text.encode()).hexdigest()[:16],
        "seed": seed,
        "inputs": dict(inputs or {}),
        "rift": __version__,
        "commit": commit(),
        "torch": importlib.metadata.version("torch"),
        "device": device,
    }


@functools.cache
def commit() -> str | None:
    """Return the commit of the checkout that this package runs from, None outside of one.

    It ends in ``-dirty`` if files have changed since. A process asks once, at its start: a checkout
    that moves on while it computes changes nothing.
    """
    repository = Path(__file__).resolve().parents[2]
    if not (repository / ".git").exists():
        return None
    command = ["git", "-C", str(repository), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        found = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
