"""The examples run and show what their page says that they show."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from rift import config

NOTEBOOK = "three_calls.ipynb"


@pytest.fixture
def examples(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the examples as a checkout has them."""
    copy = tmp_path / "examples"
    made = shutil.ignore_patterns("results", "data", "better", ".snakemake", "__pycache__")
    shutil.copytree(repository / "examples", copy, ignore=made)
    monkeypatch.setenv("PYTHONPATH", str(repository))
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join([scripts, os.environ["PATH"]]))
    return copy


def run(*words: object, cwd: Path) -> str:
    answer = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def cells(path: Path) -> list[Any]:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(path: Path) -> list[set[str]]:
    """Return what each cell shows: text, tables (HTML), pictures."""
    return [
        {kind for output in cell.outputs for kind in output.get("data", {output.output_type: ""})}
        for cell in cells(path)
    ]


def test_the_page_lists_every_example(repository: Path) -> None:
    folder = repository / "examples"
    page = (folder / "README.md").read_text()
    shown = {*folder.glob("*.py"), *folder.glob("*.ipynb"), *folder.glob("*/run.sh")}
    assert len(shown) >= 8
    for path in shown:
        assert str(path.relative_to(folder)) in page, path


@pytest.mark.parametrize("name", ["own_architecture", "own_data"])
def test_experiments_of_examples_are_valid(name: str, repository: Path) -> None:
    experiment = config.read(repository / f"examples/{name}/experiment.yaml")
    assert experiment.experiment == name.replace("_", "-")


def test_the_notebook_is_there_with_its_outputs(repository: Path) -> None:
    path = repository / "examples" / NOTEBOOK
    assert [cell.execution_count for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    shown = set().union(*kinds(path))
    assert {"stream", "text/html", "image/png"} <= shown
    assert "error" not in shown
    text = path.read_text()
    assert not re.search(r"(?<![\w.:<])/(home|root|tmp|work|Users|usr|opt|mnt)/", text)


@pytest.mark.long
def test_three_calls_improve_a_model(examples: Path) -> None:
    said = run(sys.executable, "improve_your_model.py", cwd=examples)
    assert re.search(r"selected alpha|Nothing gained", said)
    assert re.search(r"clean +\d+\.\d+% -> +\d+\.\d+%", said)
    assert (examples / "better/model.safetensors").exists()
    assert (examples / "better/summary.html").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("new_regime.py", ("pgd", "logit pairing")),
        ("new_scope.py", ("least_critical", "largest")),
    ],
)
def test_own_regimes_and_scopes_stand_beside_rifts(
    script: str, lines: tuple[str, str], examples: Path
) -> None:
    said = run(sys.executable, script, cwd=examples).splitlines()
    assert len(said) == 2
    for line, name in zip(said, lines, strict=True):
        assert line.startswith(name)
        found = [float(value) for value in re.findall(r"([\d.]+)%", line)]
        assert all(20 < value <= 100 for value in found), line


@pytest.mark.long
def test_an_own_architecture_runs_by_command_and_in_an_experiment(examples: Path) -> None:
    folder = examples / "own_architecture"
    said = run("./run.sh", cwd=folder)
    assert "mynet:build, pgd" in said
    assert (folder / "results/by-hand/base.safetensors").exists()
    assert (folder / "results/own-architecture/report.html").exists()
    read = run(sys.executable, "read_results.py", folder / "results/own-architecture", cwd=examples)
    assert re.search(r"\d+ test images gained, \d+ lost", read)


@pytest.mark.long
def test_own_data_run_by_command_and_in_an_experiment(examples: Path) -> None:
    folder = examples / "own_data"
    said = run("./run.sh", cwd=folder)
    assert "image-folder:pictures" in said
    assert "arrays:mine" in said
    assert (folder / "results/own-data/report.html").exists()


@pytest.mark.long
def test_the_notebook_runs_and_shows_the_same_kinds_of_output(examples: Path) -> None:
    before = kinds(examples / NOTEBOOK)
    notebook = nbformat.read(examples / NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(examples)}}).execute()
    nbformat.write(notebook, examples / NOTEBOOK)  # type: ignore[no-untyped-call]
    assert kinds(examples / NOTEBOOK) == before
