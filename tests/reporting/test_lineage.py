"""Results that do not belong together are refused, and tables name the versions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rift import artifacts, layout
from rift.config import Scope
from rift.errors import RiftError
from rift.layout import Run
from rift.reporting.results import Results
from rift.reporting.tables.making import make_table
from tests.reporting.conftest import CELL, ONE_CELL

RUN = Run(CELL, 0).name
SCOPE: Scope = "rift"


def evaluated(folder: Path, outcomes: artifacts.Array, **inputs: str) -> Path:
    """Write the standard evaluation of the base as the command does; return its outcomes' file."""
    source = artifacts.provenance("evaluate standard", {}, inputs=inputs)
    path = folder / RUN / layout.outcomes("base", "standard")
    summary = artifacts.write_outcomes(path, {"standard": outcomes}, source)
    facts = {"accuracy": 100 * outcomes.mean(), "images": len(outcomes)}
    artifacts.write_json(folder / RUN / layout.result("base", "standard"), facts, summary)
    return path


def read(folder: Path) -> None:
    Results(folder, ONE_CELL).outcomes(CELL, "base", "std")


@pytest.mark.parametrize("has_digest", [True, False], ids=["digest", "earlier version"])
def test_inverted_outcomes_beside_an_intact_summary_are_refused(
    has_digest: bool, copy: Path
) -> None:
    outcomes = np.arange(50) < 38
    path = evaluated(copy, outcomes)
    read(copy)
    if not has_digest:
        summary = copy / RUN / layout.result("base", "standard")
        facts = {"accuracy": 76.0, "images": 50}
        artifacts.write_json(summary, facts, artifacts.provenance("evaluate standard", {}))
        read(copy)
    artifacts.write_outcomes(path, {"standard": ~outcomes}, artifacts.read_origin(path))
    message = r"standard\.npz: is not what standard\.json next to it was computed from"
    for use in (read, lambda folder: make_table("main", folder, ONE_CELL)):
        with pytest.raises(RiftError, match=message):
            use(copy)


def test_corrupted_outcomes_are_checked_against_their_table(copy: Path) -> None:
    path = copy / RUN / layout.outcomes("base", "ood")
    arrays = artifacts.read_outcomes(path)
    inverted = {name: ~values for name, values in arrays.items()}
    artifacts.write_outcomes(path, inverted, artifacts.read_origin(path))
    with pytest.raises(RiftError, match=r"ood\.npz: is not what ood\.csv next to it"):
        Results(copy, ONE_CELL).corrupted_outcomes(CELL, "base")


def replace_base(folder: Path) -> None:
    artifacts.write_arrays(folder / RUN / layout.BASE, {"weight": np.ones(1)}, {})


def test_outcomes_of_other_weights_are_refused(copy: Path) -> None:
    digest = artifacts.content_digest(copy / RUN / layout.BASE)
    evaluated(copy, np.arange(50) < 38, weights=digest)
    read(copy)
    replace_base(copy)
    with pytest.raises(RiftError, match=r"npz: was not computed from the present .*base\.safet"):
        read(copy)
    # Results may be copied without their weights.
    (copy / RUN / layout.BASE).unlink()
    read(copy)


def test_criticality_and_selection_of_another_base_are_refused(copy: Path) -> None:
    results = Results(copy, ONE_CELL).only_seed(0)
    base = artifacts.content_digest(copy / RUN / layout.BASE)
    table = artifacts.read_csv(copy / RUN / layout.CRITICALITY, ("module",))
    made = artifacts.provenance("criticality", {}, inputs={"base": base})
    artifacts.write_csv(copy / RUN / layout.CRITICALITY, table, made)
    choice = artifacts.read_json(copy / RUN / layout.selection(SCOPE))
    del choice["provenance"]
    made = artifacts.provenance("interpolate", {}, inputs={"base": base})
    artifacts.write_json(copy / RUN / layout.selection(SCOPE), choice, made)
    readers: list[Callable[[], object]] = [
        lambda: results.criticality(CELL),
        lambda: results.selections(CELL, SCOPE),
    ]
    for each in readers:
        each()
    replace_base(copy)
    for each in readers:
        with pytest.raises(RiftError, match="was not computed from the present"):
            each()


def test_results_of_an_earlier_version_of_their_stage_are_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated(copy, np.arange(50) < 38)
    make_table("main", copy, ONE_CELL)
    monkeypatch.setitem(artifacts.STAGE_VERSIONS, "evaluate standard", 2)
    message = r"standard\.npz: was computed by version 1 of evaluate standard, and this rift has"
    with pytest.raises(RiftError, match=message):
        make_table("main", copy, ONE_CELL)


def test_a_table_names_the_versions_that_computed_its_results(copy: Path) -> None:
    source = artifacts.provenance("test", {})
    (note,) = (note for note in make_table("main", copy, ONE_CELL).notes if "torch" in note)
    assert note.startswith(f"Computed by rift {source['rift']}")
    assert note.endswith(f"with torch {source['torch']}.")
    path = copy / RUN / layout.outcomes("base", "standard")
    other = {**artifacts.read_origin(path), "commit": "0123456789abcdef", "torch": "1.0"}
    artifacts.write_outcomes(path, artifacts.read_outcomes(path), other)
    (note,) = (note for note in make_table("main", copy, ONE_CELL).notes if "torch" in note)
    assert note.startswith("The results are of different versions: ")
    assert (
        f"(0123456789ab) with torch 1.0 (1 file, first {RUN}/evaluation/base/standard.npz)" in note
    )
