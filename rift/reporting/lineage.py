"""Checks that artifacts belong together: results, the weights that they are of, and versions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rift.artifacts import (
    OUTCOMES,
    Array,
    Provenance,
    content_digest,
    read_csv,
    read_json,
    read_provenance,
    stage_version,
)
from rift.errors import RiftError


def check_current(path: Path, source: Provenance) -> None:
    """Check that the present version of its stage computed an artifact.

    Args:
        path: file of the artifact.
        source: its provenance.

    Raises:
        RiftError: another version computed it, whose results differ.
    """
    stage, version = source.get("stage"), source.get("version")
    if isinstance(stage, str) and version not in (None, stage_version(stage)):
        raise RiftError(
            f"{path}: was computed by version {version} of {stage}, and this rift has version"
            f" {stage_version(stage)}, which gives other results; delete it and run rift {stage}"
            " again"
        )


def check_inputs(path: Path, source: Provenance, inputs: Mapping[str, Path]) -> None:
    """Check that an artifact was computed from files with the present content.

    Args:
        path: file of the artifact.
        source: its provenance.
        inputs: files by their names in the provenance. Files that are not there are not checked:
            results may be copied without their weights.

    Raises:
        RiftError: it was computed from other files, or a version of another stage computed it.
    """
    check_current(path, source)
    recorded = source.get("inputs") or {}
    for name, file in inputs.items():
        if name in recorded and file.exists() and content_digest(file) != recorded[name]:
            raise RiftError(
                f"{path}: was not computed from the present {file}; delete it and run rift"
                f" {source['stage']} again"
            )


def check_summary(
    path: Path, source: Provenance, outcomes: Mapping[str, Array], summary: Path
) -> None:
    """Check that outcomes are those that their summary is of.

    Args:
        path: file of the outcomes.
        source: their provenance.
        outcomes: outcomes by name.
        summary: file of the summary. If it is not there, nothing is checked.

    Raises:
        RiftError: the summary is of other outcomes.
    """
    if not summary.exists():
        return
    told = (
        read_provenance(summary)
        if summary.suffix == ".csv"
        else read_json(summary).get("provenance", {})
    )
    if OUTCOMES in told:
        same = told[OUTCOMES] == source.get("content")
    else:
        # Summaries of earlier versions do not record the digest. They have the accuracies.
        same = all(
            np.isclose(100 * outcomes[name].mean(), accuracy)
            for name, accuracy in _accuracies(summary).items()
            if name in outcomes
        )
    if not same:
        raise RiftError(
            f"{path}: is not what {summary.name} next to it was computed from; delete both and run"
            " rift evaluate again"
        )


def _accuracies(summary: Path) -> dict[str, float]:
    """Return the accuracies in a summary by the names of the outcomes, in percent."""
    if summary.suffix == ".csv":
        table = read_csv(summary, ("corruption", "accuracy"))
        means = table.groupby("corruption")["accuracy"].mean()
        return {str(name): float(mean) for name, mean in means.items()}
    content: dict[str, Any] = read_json(summary)
    standard = {"standard": content["accuracy"]} if "accuracy" in content else {}
    attacked = {
        name: facts["accuracy"]
        for name, facts in content.items()
        if isinstance(facts, dict) and "accuracy" in facts
    }
    return {**standard, **attacked}
