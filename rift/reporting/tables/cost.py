"""Time and memory of every stage, from the benchmark files of Snakemake."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pandas as pd

from rift import layout
from rift.artifacts import read_array, read_csv, read_json, read_provenance, reading
from rift.artifacts.attempts import earlier_seconds
from rift.config import CorruptionName
from rift.errors import RiftError
from rift.layout import Cell, Run
from rift.reporting.outcomes import Metric
from rift.reporting.results import Results, cells
from rift.reporting.tables.table import NOT_RUN, Row, Table, frame
from rift.reporting.texts import name_of


class Work(NamedTuple):
    """Images that a job processed, and how the number is composed."""

    images: int
    detail: str


# Work of a stage for a seed and, where there is one, a scope or variant; None if it is not known.
Count = Callable[[Results, Cell, int, Any], Work | None]


@dataclass(frozen=True)
class Stage:
    """A stage of a run.

    Attributes:
        count: computes the work of a job.
        part: whether the stage is run for each scope or for each variant.
        kind: kind of the cells whose runs have the stage; None for all cells.
    """

    count: Count
    part: Literal["scope", "variant"] | None = None
    kind: Literal["runs", "transfers"] | None = None


class Job(NamedTuple):
    """Time, memory and work of a job."""

    seconds: float
    memory: float
    work: Work | None


def cost(results: Results) -> Table:
    """Make the table of the time and memory of every stage."""
    rows = [*_data_rows(results)]
    rows += [row for cell in cells(results.grid) for row in _run_rows(results, cell)]
    if all(row["jobs"] == 0 for row in rows):
        raise RiftError(
            f"{results.folder}: contains no benchmark file of the grid; Snakemake writes them when"
            " it runs the stages"
        )
    texts = {(row["of"], row["stage"]): _texts(row) for row in rows}
    columns = pd.Index(["Jobs", "Seconds/job", "Seconds", "Images/job", "Images/s", "Peak MiB"])
    return Table(
        "Cost",
        "Time and memory of every stage, over all seeds and scopes or variants.",
        frame(texts, columns, ("Of", "Stage")),
        pd.DataFrame(rows).drop(columns=["detail"]),
        [
            "Seconds are wall-clock time, mean ± standard deviation over jobs. They include the"
            " start of Python and loading data and network, which is most of a short job.",
            "Images/s is the number of all images divided by all seconds.",
            "Peak MiB is the largest memory of any job, without GPU memory.",
            "A job that was interrupted counts with all of its attempts, whose seconds are in its"
            " log; its memory is that of the last one. The shards of one measurement count as one"
            " job: their seconds are added.",
            "An image counts once per epoch in training and fine-tuning, and once per module in"
            " criticality. In interpolation it counts once per point, clean and under PGD together."
            " In evaluation it counts once per corruption and severity, and once per attack.",
            f"{NOT_RUN}: there is no benchmark file, because the stage was not run by Snakemake; or"
            " the artifacts do not contain the number.",
        ],
    )


def _data_rows(results: Results) -> Iterator[Row]:
    folder = results.folder
    for dataset in dict.fromkeys(cell.target for cell in cells(results.grid)):
        manifest = folder / layout.manifest(dataset)
        prepared: Work | None = None
        if manifest.exists():
            prepared = Work(sum(read_json(manifest, ("images",))["images"].values()), "")
        timed = _read(folder / layout.preparation_benchmark(dataset))
        names = {"dataset": dataset}
        yield _row(names, dataset, "prepare", [Job(*timed, prepared)] if timed else [])

        jobs = [
            Job(*timed, _corrupted_images(folder, dataset, name))
            for name in sorted(get_args(CorruptionName))
            if (timed := _read(folder / layout.corruption_benchmark(dataset, name)))
        ]
        yield _row(names, dataset, "corrupt", jobs)


def _corrupted_images(folder: Path, dataset: str, corruption: str) -> Work | None:
    images = folder / layout.corrupted(dataset, corruption)
    if not images.exists():
        return None
    count = len(read_array(images))
    return Work(count, f"{count // 5:,} × 5 severities" if count else "")


def _run_rows(results: Results, cell: Cell) -> Iterator[Row]:
    parts: Mapping[str | None, tuple[Any, ...]] = {
        "scope": results.grid.scopes,
        "variant": results.grid.variants,
        None: (None,),
    }
    for name, stage in STAGES.items():
        if stage.kind not in (None, cell.kind):
            continue
        jobs: list[Job] = []
        for seed in results.grid.seeds:
            for part in parts[stage.part]:
                patterns = layout.benchmarks(Run(cell, seed), name, part or "")
                files = {path for pattern in patterns for path in results.folder.glob(pattern)}
                timed = [both for path in sorted(files) if (both := _read(path))]
                if timed:
                    # Shards run one after the other or at once: their seconds are added.
                    seconds = sum(seconds for seconds, _ in timed)
                    memory = max(memory for _, memory in timed)
                    jobs.append(Job(seconds, memory, stage.count(results, cell, seed, part)))
        yield _row(cell._asdict(), name_of(cell), name, jobs)


def _row(names: Row, of: str, stage: str, jobs: list[Job]) -> Row:
    seconds = pd.Series([job.seconds for job in jobs], dtype=float)
    counts = [job.work.images for job in jobs if job.work is not None]
    complete = bool(jobs) and len(counts) == len(jobs)
    details = list(dict.fromkeys(job.work.detail if job.work else "" for job in jobs))
    several = f"{min(counts):,} to {max(counts):,}" if complete else ""
    rate = sum(counts) / seconds.sum() if complete and seconds.sum() > 0 else math.nan
    return {
        "of": of,
        **{name: names.get(name, math.nan) for name in Cell._fields},
        "stage": stage,
        "jobs": len(jobs),
        "seconds": seconds.mean(),
        "seconds_sd": seconds.std(ddof=1),
        "seconds_total": seconds.sum() if jobs else math.nan,
        "images": sum(counts) / len(counts) if complete else math.nan,
        "images_per_second": rate,
        "peak_memory_mib": max((job.memory for job in jobs), default=math.nan),
        "detail": details[0] if len(details) == 1 else several,
    }


def _texts(row: Row) -> list[str]:
    if not row["jobs"]:
        return [NOT_RUN] * 6
    deviation = "" if math.isnan(row["seconds_sd"]) else f" ± {row['seconds_sd']:,.1f}"
    images = NOT_RUN
    if not math.isnan(row["images"]):
        images = row["detail"] or f"{row['images']:,.0f}"
    rate, memory = row["images_per_second"], row["peak_memory_mib"]
    return [
        str(row["jobs"]),
        f"{row['seconds']:,.1f}{deviation}",
        f"{row['seconds_total']:,.0f}",
        images,
        NOT_RUN if math.isnan(rate) else f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}",
        NOT_RUN if math.isnan(memory) else f"{memory:,.0f}",
    ]


def _read(path: Path) -> tuple[float, float] | None:
    """Return seconds and peak memory in MiB of a job, or None if there is no benchmark file.

    The seconds include those of interrupted attempts, which the benchmark file does not contain.
    The memory is NaN where Snakemake could not measure it.

    Raises:
        RiftError: it is not a benchmark file of Snakemake, or the log cannot be read.
    """
    if not path.exists():
        return None
    table = reading(path, lambda: pd.read_csv(path, sep="\t", na_values=["-", "NA"]))
    complete = not table.empty and {"s", "max_rss"} <= set(table)
    if not complete or not pd.api.types.is_numeric_dtype(table["s"]):
        raise RiftError(
            f"{path}: is not a benchmark file of Snakemake; delete it, and run its stage again"
        )
    memory = pd.to_numeric(table["max_rss"], errors="coerce").max()
    return float(table["s"].mean()) + earlier_seconds(layout.log_of_benchmark(path)), float(memory)


def _split_size(results: Results, cell: Cell, split: str, images: int | str) -> int | None:
    """Return the number of images that a setting such as ``all`` stands for."""
    if images != "all":
        return int(images)
    manifest = results.folder / layout.manifest(cell.target)
    return int(read_json(manifest, ("images",))["images"][split]) if manifest.exists() else None


def _times(images: int | None, number: int, unit: str) -> Work | None:
    return None if images is None else Work(images * number, f"{images:,} × {number} {unit}")


def _epochs(history: Path) -> int:
    """Return the number of epochs so far; some may have no row, because they were not evaluated."""
    return int(read_csv(history, ("epoch",))["epoch"].max())


def _trained(results: Results, cell: Cell, seed: int, _: None) -> Work | None:
    history = results.file(cell, seed, layout.TRAINING)
    if not history.exists():
        return None
    settings = read_provenance(history)["settings"]
    images = settings.get("transfer", {}).get("images", "all")
    return _times(_split_size(results, cell, "train", images), _epochs(history), "epochs")


def _imported(*_: object) -> None:
    """An import processes no images that the artifacts count."""


def _measured(results: Results, cell: Cell, seed: int, _: None) -> Work | None:
    table = results.file(cell, seed, layout.CRITICALITY)
    if not table.exists():
        return None
    source = read_provenance(table)
    settings = source["settings"]["criticality"]
    images = _split_size(results, cell, settings["split"], settings["images"])
    return _times(images, source["rows"], "modules")


def _finetuned(results: Results, cell: Cell, seed: int, scope: str) -> Work | None:
    history = results.file(cell, seed, layout.finetuning(scope))
    if not history.exists():
        return None
    setting = read_provenance(history)["settings"]["finetune"].get("images", "all")
    return _times(_split_size(results, cell, "train", setting), _epochs(history), "epochs")


def _swept(results: Results, cell: Cell, seed: int, scope: str) -> Work | None:
    sweep = results.file(cell, seed, layout.sweep(scope))
    selection = results.file(cell, seed, layout.selection(scope))
    if not sweep.exists() or not selection.exists():
        return None
    images = read_json(selection, ("images",))["images"]
    return _times(images, read_provenance(sweep)["rows"], "points")


def _evaluated(*metrics: Metric) -> Count:
    """Return a function that counts the images of the outcomes of some metrics."""

    def count(results: Results, cell: Cell, seed: int, variant: str) -> Work | None:
        one = results.only_seed(seed)
        found = [one.outcomes(cell, variant, metric) for metric in metrics]
        counts = [outcomes.array.shape[1] for outcomes in found if outcomes is not None]
        detail = " + ".join(f"{number:,}" for number in counts)
        return Work(sum(counts), detail) if counts else None

    return count


def _corrupted(results: Results, cell: Cell, seed: int, variant: str) -> Work | None:
    outcomes = results.only_seed(seed).corrupted_outcomes(cell, variant)
    if not outcomes:
        return None
    images = len(next(iter(outcomes.values())).scores[seed])
    return _times(images, len(outcomes), "corrupted")


# The names are those of ``layout.BENCHMARKS``.
STAGES: dict[str, Stage] = {
    "train": Stage(_trained, kind="runs"),
    "import": Stage(_imported, kind="runs"),
    "transfer": Stage(_trained, kind="transfers"),
    "criticality": Stage(_measured),
    "finetune": Stage(_finetuned, "scope"),
    "interpolate": Stage(_swept, "scope"),
    "evaluate standard": Stage(_evaluated("std"), "variant"),
    "evaluate ood": Stage(_corrupted, "variant"),
    "evaluate adversarial": Stage(_evaluated("pgd", "autoattack"), "variant"),
}
