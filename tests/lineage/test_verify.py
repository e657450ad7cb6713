"""``rift verify``: an experiment is run again, and all numbers are compared."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rift import artifacts, layout
from rift.commands import lineage as commands
from rift.lineage.comparing import Difference, compare
from tests.experiment import rift
from tests.lineage.test_show import OUTCOMES, OWN, SCOPE, flip


def changed_weights(results: Path, name: str) -> tuple[str, float, float]:
    """Change one weight and its digests; return its place, its old and its new value."""
    path = results / name
    weights, facts = artifacts.read_weights(path)
    key = next(key for key in sorted(weights) if weights[key].ndim == 4)
    before = float(weights[key][1, 0, 2, 1])
    weights[key][1, 0, 2, 1] = before + 1
    now = float(weights[key][1, 0, 2, 1])
    source = facts.pop("provenance")
    facts.pop("sums")
    artifacts.write_weights(path, weights, source, **facts)
    return f"{key}[1, 0, 2, 1]", before, now


def test_equal_results_have_no_difference(finished: Path, results: Path) -> None:
    differences, files = compare(finished, results)
    assert differences == []
    # All artifacts of the layout: data, weights, tables, outcomes, and one table of the report.
    assert files == 25


def test_one_changed_weight_is_named_with_both_values(finished: Path, results: Path) -> None:
    name = f"{OWN}/{layout.finetuned(SCOPE)}"
    place, before, now = changed_weights(results, name)
    (difference,), _ = compare(finished, results)
    assert difference.path == name
    assert difference.text.startswith(f"{place} is ")
    first, second = difference.text.removeprefix(f"{place} is ").split(" in the results and ")
    assert float(first) == pytest.approx(before)
    assert float(second.removesuffix(" in the new run")) == pytest.approx(now)


def test_differences_come_in_the_order_in_which_files_are_made(
    finished: Path, results: Path
) -> None:
    outcomes = artifacts.read_outcomes(results / OUTCOMES)
    outcomes["standard"][7] ^= True
    source = artifacts.read_origin(results / OUTCOMES)
    artifacts.write_outcomes(results / OUTCOMES, outcomes, source)
    table = results / layout.table("main", "csv")
    table.write_text(table.read_text().replace(",std,", ",ood,", 1))
    changed_weights(results, f"{OWN}/{layout.BASE}")
    criticality = results / OWN / layout.CRITICALITY
    rows = artifacts.read_csv(criticality, ("mrc",))
    rows.loc[2, "mrc"] = -1.5
    artifacts.write_csv(criticality, rows, artifacts.read_provenance(criticality))
    differences, _ = compare(finished, results)
    assert [each.path for each in differences] == [
        f"{OWN}/{layout.BASE}",
        f"{OWN}/{layout.CRITICALITY}",
        OUTCOMES,
        "tables/main.csv",
    ]
    assert differences[1].text.startswith("mrc[2] is ")
    assert "and -1.5 in the new run" in differences[1].text
    assert differences[2].text.startswith("standard[7] is ")


def test_times_do_not_count_and_other_columns_do(finished: Path, results: Path) -> None:
    history = results / OWN / layout.TRAINING
    table, source = artifacts.read_csv(history, ()), artifacts.read_provenance(history)
    artifacts.write_csv(history, table.assign(images_per_second=1.0), source)
    assert compare(finished, results)[0] == []
    artifacts.write_csv(history, table.assign(learning_rate=1.0), source)
    ((path, _),) = compare(finished, results)[0]
    assert path == f"{OWN}/{layout.TRAINING}"


def test_missing_and_damaged_files_differ(finished: Path, results: Path) -> None:
    (results / OUTCOMES).unlink()
    flip(results / layout.prepared("digits"))
    damage, missing = compare(finished, results)[0]
    assert damage.path == "data/digits/prepared.safetensors"
    assert "is damaged" in damage.text
    assert missing == Difference(OUTCOMES, "is missing in the new run")


def test_not_a_number_equals_itself(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name / OWN
        source = artifacts.provenance("test", {})
        table = pd.DataFrame({"mrc": [1.0, np.nan], "name": ["x", None]})
        artifacts.write_csv(folder / "sweep.csv", table, source)
        weights = {"a": torch.tensor([1.0, float("nan")]), "b": torch.ones(2).bfloat16()}
        artifacts.write_weights(folder / layout.BASE, weights, source)
    assert compare(tmp_path / "a", tmp_path / "b") == ([], 2)


@pytest.fixture
def rerun(finished: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let the new run be a copy of the finished one, and return the folders that it ran in."""
    folders: list[Path] = []

    def copy(configuration: Path, cores: str, *options: str, folder: Path) -> int:
        assert configuration.name == layout.CONFIGURATION
        folders.append(folder)
        shutil.copytree(finished, folder / "results/small")
        return 0

    monkeypatch.setattr(commands, "run_snakemake", copy)
    return folders


def test_verification_of_equal_results_leaves_nothing_behind(
    results: Path, rerun: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    beside = results.parent.parent / "weights.pth"
    beside.write_text("weights")
    rift("verify", results)
    assert capsys.readouterr().out == "all numbers of 25 files are equal\n"
    assert not rerun[0].exists()
    assert beside.read_text() == "weights"


def test_verification_names_the_first_difference_and_keeps_the_new_run(
    results: Path, rerun: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{OWN}/{layout.BASE}"
    changed_weights(results, name)
    (results.parent.parent / "weights.pth").write_text("weights")
    changed = (results / name).read_bytes()
    with pytest.raises(SystemExit, match="1"):
        rift("verify", results, "--scratch", tmp_path / "scratch")
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{name}: ")
    assert last.startswith("1 of 25 files differ; the new run is in ")
    assert (tmp_path / "scratch/results/small").is_dir()
    # Relative paths of the experiment hold in the scratch folder.
    assert (tmp_path / "scratch/weights.pth").read_text() == "weights"
    assert (results / name).read_bytes() == changed


@pytest.mark.whole
def test_a_finished_experiment_is_really_run_again(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is replaced: Snakemake runs all jobs in the scratch folder."""
    before = {path: path.read_bytes() for path in sorted(finished.rglob("*")) if path.is_file()}
    scratch = tmp_path / "scratch"
    rift("verify", finished, "--cores", "1", "--scratch", scratch)
    assert capfd.readouterr().out.splitlines()[-1] == "all numbers of 25 files are equal"
    assert {path: path.read_bytes() for path in before} == before
    again = scratch / "results/small"
    # The new run has logs of its own jobs, and the finished one, made by commands, has none.
    assert len([*again.glob("logs/**/*.log")]) > 10
    assert not (finished / "logs").exists()
    # The new numbers are those that the comparison reads.
    name = f"{OWN}/{layout.BASE}"
    changed_weights(again, name)
    ((path, _),) = compare(finished, again)[0]
    assert path == name


def test_unfinished_results_and_a_used_scratch_folder_are_refused(
    results: Path, rerun: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        rift("verify", results, "--scratch", results)
    assert "is not empty" in capsys.readouterr().err
    (results / OUTCOMES).unlink()
    with pytest.raises(SystemExit, match="1"):
        rift("verify", results)
    assert f"1 files are missing, the first is {OUTCOMES}" in capsys.readouterr().err
    assert rerun == []
