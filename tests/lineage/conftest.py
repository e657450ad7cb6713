"""A finished experiment on digits, made by the commands that the workflow calls."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rift import config, layout
from rift.commands.main import main
from rift.config import Experiment
from rift.lineage.configuration import record_experiment
from tests.workflow.running import SMALL


def rift(*words: str | Path, flags: str = "") -> None:
    """Call the command line within this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rift", *map(str, words), *shlex.split(flags)])
        main()


def make(folder: Path, experiment: Experiment) -> None:
    """Make every file of an experiment with one run."""
    (run,), (scope,) = experiment.runs, experiment.grid.scopes
    own, data = folder / run.name, folder / layout.prepared("digits")

    def flags(*sections: str) -> str:
        return experiment.flags(run, *sections)

    preparation = experiment.flags(None, "data", dataset="digits")
    manifest = folder / layout.manifest("digits")
    rift(
        "prepare",
        "--dataset",
        "digits",
        "--output",
        data,
        "--manifest",
        manifest,
        flags=preparation,
    )
    images = folder / layout.corrupted("digits", "contrast")
    rift("corrupt", "--data", data, "--corruption", "contrast", "--output", images)
    base, table = own / layout.BASE, own / layout.CRITICALITY
    words: tuple[str | Path, ...]
    outputs: tuple[str | Path, ...]
    words = ("--data", data, "--architecture", "resnet8", "--regime", "pgd", "--output", base)
    training = flags("train", "attack", "inner", "augment", "regime")
    rift("train", *words, "--history", own / layout.TRAINING, flags=training)
    measuring = flags("criticality", "attack")
    rift("criticality", "--base", base, "--data", data, "--output", table, flags=measuring)
    tuned = own / layout.finetuned(scope)
    words = ("--base", base, "--criticality", table, "--data", data, "--scope", scope)
    outputs = ("--output", tuned, "--history", own / layout.finetuning(scope))
    rift("finetune", *words, *outputs, flags=experiment.finetune_flags(run, scope))
    selected = own / layout.selected(scope)
    words = ("--base", base, "--finetuned", tuned, "--data", data, "--output", selected)
    outputs = ("--sweep", own / layout.sweep(scope), "--choice", own / layout.selection(scope))
    rift("interpolate", *words, *outputs, flags=experiment.interpolate_flags(run, scope))
    for variant, weights in (("base", base), (scope, selected)):
        ood = ("--corrupted", images)
        attacks = ("--attacks", "pgd")
        for kind, more, read in (
            ("standard", (), ("evaluate.standard",)),
            ("ood", ood, ("evaluate.ood",)),
            ("adversarial", attacks, ("attack", "evaluate.pgd", "evaluate.autoattack")),
        ):
            result, outcomes = (
                own / file(variant, kind)  # type: ignore[arg-type]
                for file in (layout.result, layout.outcomes)
            )
            words = ("--weights", weights, "--data", data, *more)
            rift(
                "evaluate",
                kind,
                *words,
                "--output",
                result,
                "--outcomes",
                outcomes,
                flags=flags(*read),
            )
    report(folder, experiment)
    record_experiment(folder, SMALL)


def report(folder: Path, experiment: Experiment) -> None:
    """Make the tables, figures and pages of an experiment."""

    def made(kind: str, *files: Path, flags: str, name: str = "") -> None:
        words = [kind, name] if name else [kind]
        lineage = layout.lineage(files[0])
        outputs = ",".join(map(str, files))
        rift(*words, "--results", folder, "--output", outputs, "--lineage", lineage, flags=flags)

    grid = experiment.flags(None, "grid")
    tables = [folder / layout.table("main", end) for end in ("html", "csv", "md", "tex")]
    made("table", *tables, name="main", flags=grid)
    (cell,) = experiment.cells
    drawings = [folder / layout.figure("training", end, cell) for end in ("png", "pdf")]
    made("figure", *drawings, name="training", flags=experiment.flags(cell, "grid"))
    made("overview", folder / layout.OVERVIEW, flags=grid)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished experiment, which tests must not change."""
    folder = tmp_path_factory.mktemp("lineage") / "results/small"
    make(folder, config.parse(SMALL, "config.yaml"))
    return folder


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the finished experiment that a test may change."""
    folder = tmp_path / "results/small"
    shutil.copytree(finished, folder)
    yield folder
    shutil.rmtree(folder)
