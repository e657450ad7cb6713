"""``rift archive``: an experiment in one file."""

import hashlib
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from rift import artifacts, config, layout
from rift.lineage.completeness import reported_files
from rift.lineage.configuration import record_experiment
from tests.experiment import rift
from tests.lineage.test_show import OUTCOMES, OWN, SCOPE, flip
from tests.workflow.running import SMALL


def contents(archive: Path) -> dict[str, bytes]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            return {name: packed.read(name) for name in packed.namelist()}
    with tarfile.open(archive) as unpacked:
        files = {each.name: unpacked.extractfile(each) for each in unpacked.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


def refusal(results: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        rift("archive", results, "--output", output)
    assert not output.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_equal_results_give_equal_bytes_whatever_their_dates(
    ending: str, finished: Path, results: Path, tmp_path: Path
) -> None:
    for path in results.rglob("*"):
        os.utime(path, (1, 1))
    first, second = (tmp_path / f"{name}{ending}" for name in "ab")
    rift("archive", finished, "--output", first)
    rift("archive", results, "--output", second)
    assert first.read_bytes() == second.read_bytes()
    members = contents(first)
    assert list(members) == sorted(members)
    for name in reported_files(config.parse(SMALL, "config.yaml")):
        assert members[f"small/{name}"] == (finished / name).read_bytes()


def test_the_archive_tells_where_its_numbers_come_from(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    rift("archive", finished, "--output", path)
    members = contents(path)
    assert yaml.safe_load(members["small/experiment.yaml"]) == SMALL
    made = json.loads(members["small/lineage.json"])
    outcomes = made["artifacts"][OUTCOMES]
    assert outcomes["digest"] == artifacts.content_digest(finished / OUTCOMES)
    (weights,) = [each for each in outcomes["inputs"] if each["role"] == "weights"]
    selected = f"{OWN}/{layout.selected(SCOPE)}"
    assert weights["path"] == selected
    assert weights["digest"] == artifacts.content_digest(finished / selected)
    # Each input of each artifact is described, too.
    named = {each["path"] for every in made["artifacts"].values() for each in every["inputs"]}
    assert named <= set(made["artifacts"])
    assert list(made["sources"]) == ["digits.csv.gz"]
    versions = json.loads(members["small/versions.json"])
    assert versions["stages"]["criticality"] == artifacts.stage_version("criticality")
    assert {each["torch"] for each in versions["computed_by"]} == {
        artifacts.provenance("test", {})["torch"]
    }
    readme = members["small/README.md"].decode()
    for name in members.keys() - {"small/README.md"}:
        top = name.split("/")[1]
        assert top in readme or top.endswith(".lineage.json"), name
    assert made["sources"]["digits.csv.gz"] in readme


def test_the_report_is_packed_if_there_is_one(results: Path, tmp_path: Path) -> None:
    (results / "report.html").write_text("<p>report</p>")
    rift("archive", results, "--output", tmp_path / "a.zip")
    assert contents(tmp_path / "a.zip")["small/report.html"] == b"<p>report</p>"


def test_incomplete_results_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / OUTCOMES).unlink()
    (results / layout.table("main", "tex")).unlink()
    message = refusal(results, tmp_path / "a.zip", capsys)
    assert f"{OUTCOMES}: is missing" in message
    assert "tables/main.tex: is missing" in message


def test_damaged_results_and_edited_tables_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(results / OWN / layout.finetuned(SCOPE))
    (results / layout.table("main", "csv")).write_text("variant,mean\nrift,100\n")
    message = refusal(results, tmp_path / "a.zip", capsys)
    assert f"{layout.finetuned(SCOPE)}: is damaged" in message
    assert "main.csv was changed since it was made" in message


def test_results_of_other_settings_than_those_of_the_file_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_experiment(results, {**SMALL, "train": {"epochs": 2, "learning_rate": 0.04}})
    message = refusal(results, tmp_path / "a.zip", capsys)
    wrong = "base.safetensors: train.learning_rate is 0.05, and 0.04 in the experiment"
    assert f"{OWN}/{wrong}" in message


def test_a_folder_without_its_experiment_file_and_another_ending_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "are written as .zip or .tar.gz" in refusal(results, tmp_path / "a.rar", capsys)
    (results / layout.CONFIGURATION).unlink()
    assert "contains no experiment.yaml" in refusal(results, tmp_path / "a.zip", capsys)


def test_archiving_changes_no_result(results: Path, tmp_path: Path) -> None:
    def digests() -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in results.rglob("*")
            if path.is_file()
        }

    before = digests()
    rift("archive", results, "--output", tmp_path / "a.zip")
    assert digests() == before
