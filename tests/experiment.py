"""A small experiment with one run, made within this process by the commands of the workflow."""

import shlex
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from rift import layout
from rift.commands.main import main
from rift.config import Experiment
from rift.layout import Evaluation

Words = list[str]
OUTPUTS = ["--output", "--history", "--manifest", "--sweep", "--choice", "--outcomes", "--lineage"]


def rift(*words: str | Path) -> None:
    """Call the command line within this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rift", *map(str, words)])
        main()


def commands(folder: Path, experiment: Experiment) -> dict[str, Words]:
    """Return the words of every command of an experiment, by stage and part, in order.

    Args:
        folder: folder of the experiment.
        experiment: an experiment with one run, one scope, and the corruption contrast.
    """
    return {**_stages(folder, experiment), **_reports(folder, experiment)}


def _stages(folder: Path, experiment: Experiment) -> dict[str, Words]:
    (run,), (scope,) = experiment.runs, experiment.grid.scopes
    own, data = folder / run.name, folder / layout.prepared("digits")
    manifest = folder / layout.manifest("digits")
    images = folder / layout.corrupted("digits", "contrast")
    base, table = own / layout.BASE, own / layout.CRITICALITY
    tuned, selected = own / layout.finetuned(scope), own / layout.selected(scope)
    made = {
        "prepare": f"prepare --dataset digits --output {data} --manifest {manifest}"
        f" {experiment.flags(None, 'data', dataset='digits')}",
        "corrupt": f"corrupt --data {data} --corruption contrast --output {images}",
        "train": f"train --data {data} --architecture resnet8 --regime pgd --output {base}"
        f" --history {own / layout.TRAINING}"
        f" {experiment.flags(run, 'train', 'attack', 'inner', 'augment', 'regime')}",
        "criticality": f"criticality --base {base} --data {data} --output {table}"
        f" {experiment.flags(run, 'criticality', 'attack')}",
        "finetune": f"finetune --base {base} --criticality {table} --data {data} --scope {scope}"
        f" --output {tuned} --history {own / layout.finetuning(scope)}"
        f" {experiment.finetune_flags(run, scope)}",
        "interpolate": f"interpolate --base {base} --finetuned {tuned} --data {data}"
        f" --output {selected} --sweep {own / layout.sweep(scope)}"
        f" --choice {own / layout.selection(scope)} {experiment.interpolate_flags(run, scope)}",
    }
    kinds: dict[Evaluation, tuple[str, tuple[str, ...]]] = {
        "standard": ("", ("evaluate.standard",)),
        "ood": (f" --corrupted {images}", ("evaluate.ood",)),
        "adversarial": (" --attacks pgd", ("attack", "evaluate.pgd", "evaluate.autoattack")),
    }
    for variant, weights in (("base", base), (scope, selected)):
        for kind, (more, read) in kinds.items():
            made[f"{kind} {variant}"] = (
                f"evaluate {kind} --weights {weights} --data {data}{more}"
                f" --output {own / layout.result(variant, kind)}"
                f" --outcomes {own / layout.outcomes(variant, kind)} {experiment.flags(run, *read)}"
            )
    return {name: shlex.split(text) for name, text in made.items()}


def _reports(folder: Path, experiment: Experiment) -> dict[str, Words]:
    (cell,) = experiment.cells
    grid = experiment.flags(None, "grid")
    tables = [folder / layout.table("main", end) for end in ("html", "csv", "md", "tex")]
    drawings = [folder / layout.figure("training", end, cell) for end in ("png", "pdf")]
    page = folder / layout.OVERVIEW
    made = {
        "table": ("table main", tables, grid),
        "figure": ("figure training", drawings, experiment.flags(cell, "grid")),
        "overview": ("overview", [page], grid),
    }
    return {
        name: shlex.split(
            f"{start} --results {folder} --output {','.join(map(str, files))}"
            f" --lineage {layout.lineage(files[0])} {flags}"
        )
        for name, (start, files, flags) in made.items()
    }


def outputs(words: Words) -> list[Path]:
    """Return the output files of a command."""
    given = dict(pairwise(words))
    return [Path(each) for flag in OUTPUTS if flag in given for each in given[flag].split(",")]
