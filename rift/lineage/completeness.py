"""Whether results are those of an experiment file: all files, and their settings."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rift import layout
from rift.artifacts import recorded_provenance
from rift.config import RESULT_NEUTRAL, Experiment, Settings
from rift.config.values import leaves
from rift.layout import Evaluation, Run

EVALUATIONS: tuple[Evaluation, ...] = ("standard", "ood", "adversarial")


def expected_files(experiment: Experiment) -> list[str]:
    """Return the paths of all files that an experiment makes, below its folder."""
    files = [
        file
        for dataset in experiment.datasets
        for file in (layout.prepared(dataset), layout.manifest(dataset))
    ]
    for dataset in experiment.datasets:
        images = [layout.corrupted(dataset, name) for name in experiment.corruptions(dataset)]
        files += [Path(file).with_suffix(end).as_posix() for file in images for end in ENDINGS]
    imported = {*experiment.imports}
    for run in (*experiment.outside, *experiment.runs):
        history = layout.IMPORTED if run in imported else layout.TRAINING
        files += [f"{run.name}/{file}" for file in (layout.BASE, history)]
    files += [f"{run.name}/{file}" for run in experiment.runs for file in _of_run(experiment)]
    return files + reported_files(experiment)


ENDINGS = (".npy", ".json")


def _of_run(experiment: Experiment) -> Iterator[str]:
    yield layout.CRITICALITY
    for scope in experiment.grid.scopes:
        yield from (layout.finetuned(scope), layout.finetuning(scope), layout.sweep(scope))
        yield from (layout.selected(scope), layout.selection(scope))
    for variant in experiment.grid.variants:
        for evaluation in EVALUATIONS:
            yield from (
                layout.result(variant, evaluation),
                layout.outcomes(variant, evaluation),
            )


def reported_files(experiment: Experiment) -> list[str]:
    """Return the paths of all tables, figures and pages, each with its lineage."""
    files: list[str] = []
    for table in experiment.tables:
        files += [layout.table(table, suffix) for suffix in ("csv", "html", "md", "tex")]
    figures = [
        layout.figure(name, suffix, cell=cell)
        for cell, names in experiment.figures.items()
        for name in names
        for suffix in ("png", "pdf")
    ]
    figures += [
        layout.figure(name, suffix, dataset=dataset)
        for dataset in experiment.datasets
        for name in experiment.dataset_figures
        for suffix in ("png", "pdf")
    ]
    files += [*figures, layout.OVERVIEW]
    lineages = [layout.lineage(Path(file)).as_posix() for file in files]
    return list(dict.fromkeys((*files, *lineages)))


def other_settings(experiment: Experiment, folder: Path) -> list[str]:
    """Return the settings of results that are not those of the experiment file.

    Args:
        experiment: the experiment.
        folder: its folder.

    Returns:
        A text for each setting, with the file, its value there and that of the experiment.

    Raises:
        RiftError: an artifact cannot be read.
    """
    found: list[str] = []
    for name in expected_files(experiment):
        run = _run_of(name)
        top = name.split("/")[0]
        if top == "data":
            settings = experiment.settings(name.split("/")[1])
        elif run is not None:
            settings = experiment.settings_of(run)
        else:
            continue
        path = folder / name
        if path.suffix == ".npy":
            continue
        found += [
            f"{name}: {text}"
            for text in _differing(recorded_provenance(path).get("settings") or {}, settings)
        ]
    return found


def _run_of(name: str) -> Run | None:
    parts = name.split("/")
    return Run.parse("/".join(parts[:5])) if parts[0] in ("runs", "transfers") else None


def _differing(recorded: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Yield the recorded settings that differ, of the sections that an experiment has."""
    now = leaves(settings.model_dump(mode="json"))
    sections = {
        key: value
        for key, value in recorded.items()
        if key in Settings.model_fields and isinstance(value, Mapping)
    }
    for key, value in leaves(sections).items():
        neutral = key.rpartition(".")[2] in RESULT_NEUTRAL
        if not neutral and key in now and now[key] != value:
            yield f"{key} is {value}, and {now[key]} in the experiment"
