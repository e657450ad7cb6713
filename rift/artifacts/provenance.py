"""The provenance of an artifact: the stage, settings, inputs and versions that produced it."""

import functools
import hashlib
import importlib.metadata
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rift import __version__

Provenance = dict[str, Any]
"""A dict of ``stage``, ``version`` of the stage, ``settings`` and their ``digest``, ``seed``,
``inputs`` (digest of the content of each input), ``rift``, ``commit``, ``torch`` and ``device``.

The provenance of outcomes also contains ``examples``, the digest of the test images.
"""


STAGE_VERSIONS: dict[str, int] = {"criticality": 2, "transfer": 2}
"""Versions of the stages whose results a change of the code has changed; all others have 1."""


def stage_version(stage: str) -> int:
    """Return the present version of a stage."""
    return STAGE_VERSIONS.get(stage, 1)


def provenance(
    stage: str,
    settings: Mapping[str, object],
    *,
    seed: int | None = None,
    device: str | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Provenance:
    """Return the provenance of an artifact.

    Args:
        stage: name of the stage.
        settings: all settings that affect the result, as JSON values.
        seed: seed of the run; None if the stage draws no random numbers.
        device: device that computed the artifact; None if the stage does not use torch.
        inputs: digest of the content of each input, by name.
    """
    version = stage_version(stage)
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
    """Return the commit of the checkout that this package runs from, or None without a checkout.

    The commit ends in ``-dirty`` if files differ from it. The result is cached when the process
    starts, so that a later change of the checkout has no effect.
    """
    repository = Path(__file__).resolve().parents[2]
    if not (repository / ".git").exists():
        return None
    # Hooks set variables such as GIT_DIR, which would select another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(repository), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        found = subprocess.run(
            [*command, "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
