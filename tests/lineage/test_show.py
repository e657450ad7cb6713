"""``rift show``: the lineage of an artifact, back to the checksums of the data."""

import gzip
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rift import artifacts, layout
from rift.layout import Cell, Run
from tests.experiment import rift

OWN = Run(Cell("digits", "resnet8", "pgd"), 0).name
SCOPE = "module-linear"
OUTCOMES = f"{OWN}/{layout.outcomes(SCOPE, 'standard')}"


def shown(path: Path, capsys: pytest.CaptureFixture[str], status: int = 0) -> dict[str, Any]:
    """Return the lineage that is printed for programs."""
    capsys.readouterr()
    if status:
        with pytest.raises(SystemExit) as exit_:
            rift("show", path, "--json")
        assert exit_.value.code == status
    else:
        rift("show", path, "--json")
    return dict(json.loads(capsys.readouterr().out))


def walk(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for each in node["inputs"] for below in walk(each))]


def problems(node: dict[str, Any]) -> list[str]:
    return [f"{each['path']}: {text}" for each in walk(node) for text in each["problems"]]


def test_outcomes_are_traced_back_to_the_checksum_of_the_data(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = shown(finished / OUTCOMES, capsys)
    stages = {each["stage"] for each in walk(node) if "stage" in each}
    assert stages == {
        "evaluate standard",
        "interpolate",
        "finetune",
        "criticality",
        "train",
        "prepare",
    }
    (source,) = [each for each in walk(node) if each["role"] == "source"]
    digits = files("sklearn.datasets.data") / "digits.csv.gz"
    assert source["digest"] == hashlib.sha256(digits.read_bytes()).hexdigest()
    (weights,) = [each for each in node["inputs"] if each["role"] == "weights"]
    assert weights["path"] == f"{OWN}/{layout.selected(SCOPE)}"
    assert weights["settings"]["interpolate"]["images"] == 60


@pytest.mark.parametrize(
    "name",
    [
        layout.prepared("digits"),
        layout.corrupted("digits", "contrast"),
        f"{OWN}/{layout.BASE}",
        f"{OWN}/{layout.CRITICALITY}",
        f"{OWN}/{layout.sweep(SCOPE)}",
        f"{OWN}/{layout.result('base', 'ood')}",
        layout.table("main", "csv"),
        layout.figure("training", "pdf", Cell("digits", "resnet8", "pgd")),
        layout.OVERVIEW,
    ],
)
def test_every_kind_of_file_is_traced_back_to_the_data(
    name: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = shown(finished / name, capsys)
    assert node["path"] == name
    assert "digits.csv.gz" in {each["path"] for each in walk(node)}
    assert problems(node) == []


def test_the_tree_says_what_made_an_artifact(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    rift("show", finished / OUTCOMES)
    text = capsys.readouterr().out
    assert "stage    evaluate standard, version 1" in text
    assert f"weights: {SCOPE}/selected.safetensors  interpolate, seed 0, " in text
    assert "source: digits.csv.gz" in text
    assert text.endswith("everything is there and matches its digests\n")


def test_a_table_names_the_artifacts_that_it_shows(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = shown(finished / layout.table("main", "md"), capsys)
    assert OUTCOMES in {each["path"] for each in node["inputs"]}


def flip(path: Path, place: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        layout.prepared("digits"),
        f"{OWN}/{layout.BASE}",
        f"{OWN}/{layout.finetuned(SCOPE)}",
        f"{OWN}/{layout.CRITICALITY}",
    ],
)
def test_a_flipped_bit_far_below_is_found(
    name: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(results / name)
    (problem,) = problems(shown(results / OUTCOMES, capsys, status=1))
    assert problem.startswith(f"{name}: is damaged")


def test_a_flipped_bit_in_corrupted_images_is_found(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(results / layout.corrupted("digits", "contrast"))
    outcomes = results / OWN / layout.outcomes("base", "ood")
    (problem,) = problems(shown(outcomes, capsys, status=1))
    assert "contrast.json: " in problem
    assert "contrast.npy: is damaged" in problem


def test_a_replaced_input_is_named_with_both_digests(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = results / OWN / layout.BASE
    before = artifacts.content_digest(base)
    source = artifacts.read_facts(base)["provenance"]
    artifacts.write_arrays(base, {"weight": np.ones(1)}, source)
    found = problems(shown(results / OWN / layout.CRITICALITY, capsys, status=1))
    now = artifacts.content_digest(base)
    assert found == [
        f"{OWN}/criticality.csv: base: was computed from content {before[:12]}, but"
        f" {OWN}/base.safetensors has content {now[:12]}"
    ]


def test_a_missing_input_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / OWN / layout.finetuned(SCOPE)).unlink()
    found = problems(shown(results / OUTCOMES, capsys, status=1))
    assert found == [f"{OWN}/{SCOPE}/finetuned.safetensors: is missing"]


def test_an_edited_table_and_one_of_older_outcomes_are_found(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = results / layout.table("main", "csv")
    table.write_text(table.read_text().replace("1", "2", 1))
    found = problems(shown(table, capsys, status=1))
    assert found == ["tables/main.csv: main.csv was changed since it was made"]
    page = results / layout.table("main", "html")
    assert problems(shown(page, capsys)) == []
    path = results / OUTCOMES
    outcomes = artifacts.read_outcomes(path)
    inverted = {name: ~values for name, values in outcomes.items()}
    artifacts.write_outcomes(path, inverted, artifacts.read_origin(path))
    found = problems(shown(page, capsys, status=1))
    assert any(f"{OUTCOMES}: was computed from content" in text for text in found)


def test_results_of_another_version_of_a_stage_are_named(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(artifacts.STAGE_VERSIONS, "interpolate", 7)
    found = problems(shown(finished / OUTCOMES, capsys, status=1))
    assert found == [
        f"{OWN}/{layout.selected(SCOPE)}: was computed by version 1 of interpolate; this rift has"
        " version 7, which gives other results"
    ]


def test_files_outside_of_an_experiment_find_their_inputs_by_content(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, mine in (
        (layout.prepared("digits"), "set.safetensors"),
        (f"{OWN}/{layout.BASE}", "a.safetensors"),
    ):
        (tmp_path / mine).write_bytes((finished / name).read_bytes())
    node = shown(tmp_path / "a.safetensors", capsys)
    assert [each["path"] for each in node["inputs"]] == ["set.safetensors"]


def test_what_is_no_artifact_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, message in (
        (tmp_path / "nothing.csv", "does not exist"),
        (tmp_path, "is a folder; name a file"),
    ):
        with pytest.raises(SystemExit, match="1"):
            rift("show", path)
        assert message in capsys.readouterr().err
    other = tmp_path / "other.gz"
    other.write_bytes(gzip.compress(b"x"))
    assert "has no lineage" in problems(shown(other, capsys, status=1))[0]
