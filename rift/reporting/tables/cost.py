"""What each stage took: from the benchmark files that Snakemake writes beside the results."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rift.artifacts import read_array, read_json, read_provenance, reading
from rift.config import Grid, Scope, Variant
from rift.errors import RiftError
from rift.reporting.results import Cell, Metric, Results, cells
from rift.reporting.tables.table import NOT_RUN, Row, Table, frame, name_of

Counts = Callable[[Results, Cell, int, Any], "tuple[int, str] | None"]


@dataclass(frozen=True)
class Stage:
    """What a stage left behind of the time that it took.

    Attributes:
        name: of the stage.
        files: patterns of its benchmark files below those of a run; ``{part}`` stands for a scope or variant.
        parts: which of the two it stands for, if any.
        images: how many images a run of the stage goes through, and how that comes about; None where it cannot be told.
    """

    name: str
    files: tuple[str, ...]
    parts: str | None
    images: Counts


def cost(folder: Path, grid: Grid) -> Table:
    """Seconds and images a second of every stage of every cell."""
    results = Results(folder, grid)
    rows = [*_of_data(results), *(row for cell in cells(grid) for row in _of_runs(results, cell))]
    if all(row["jobs"] == 0 for row in rows):
        raise RiftError(
            f"{folder / 'benchmarks'}: holds no benchmark file of the grid; Snakemake writes them as it runs the stages"
        )
    texts = {(row["of"], row["stage"]): _texts(row) for row in rows}
    columns = pd.Index(["Jobs", "Seconds/job", "Seconds", "Images/job", "Images/s", "Peak MiB"])
    return Table(
        "Cost",
        "Time and memory that each stage took, over all seeds and scopes or variants.",
        frame(texts, columns, ("Of", "Stage")),
        pd.DataFrame(rows).drop(columns=["detail"]),
        [
            "Seconds are wall-clock, mean ± standard deviation over jobs, and include starting Python and loading data and"
            " network: of short jobs that is most. Images/s are all images over all those seconds.",
            "Peak MiB is the most memory that a job held, without that of a GPU.",
            "A job that was interrupted and went on counts from where it went on. Shards of one measurement count as one job;"
            " their seconds are added.",
            "Of training and fine-tuning, an image counts once an epoch; of interpolation, once a point, clean and under PGD"
            " together; of criticality, once a module; of OOD, once a corruption and severity; of the adversarial evaluation,"
            " once an attack (PGD, AutoAttack).",
            f"{NOT_RUN}: no benchmark file (not run, or not by Snakemake), or not to be told from the artifacts.",
        ],
    )


def _of_data(results: Results) -> Iterator[Row]:
    for dataset in results.grid.datasets:
        timed = results.folder / "benchmarks/data" / dataset
        prepared = results.folder / "data" / dataset
        jobs = [seconds for path in (timed / "prepare.tsv",) if (seconds := _read(path))]
        manifest = prepared / "manifest.json"
        total = sum(read_json(manifest, ("images",))["images"].values()) if manifest.exists() else None
        yield _row({"dataset": dataset}, dataset, "prepare", [(job, total, "") for job in jobs])
        made = []
        for path in sorted((timed / "corrupted").glob("*.tsv")):
            images = prepared / "corrupted" / f"{path.stem}.npy"
            count = len(read_array(images)) if images.exists() else None
            if job := _read(path):
                made.append((job, count, f"{count // 5:,} × 5 severities" if count else ""))
        yield _row({"dataset": dataset}, dataset, "corrupt", made)


def _of_runs(results: Results, cell: Cell) -> Iterator[Row]:
    grid = results.grid
    for stage in STAGES:
        parts = {"scope": grid.scopes, "variant": grid.variants, None: (None,)}[stage.parts]
        jobs = []
        for seed in grid.seeds:
            for part in parts:
                timed = results.folder.joinpath("benchmarks", "runs", *cell, f"seed{seed}")
                patterns = (pattern.format(part=part) for pattern in stage.files)
                files = sorted({path for pattern in patterns for path in timed.glob(pattern)})
                found = [seconds for path in files if (seconds := _read(path))]
                if found:
                    together = sum(seconds for seconds, _ in found), max(memory for _, memory in found)
                    count, detail = stage.images(results, cell, seed, part) or (None, "")
                    jobs.append((together, count, detail))
        yield _row(cell._asdict(), name_of(cell), stage.name, jobs)


def _row(cell: Row, of: str, stage: str, jobs: list[tuple[tuple[float, float], int | None, str]]) -> Row:
    seconds = pd.Series([taken for (taken, _), _, _ in jobs], dtype=float)
    counts = [count for _, count, _ in jobs if count is not None]
    whole = bool(jobs) and len(counts) == len(jobs)
    details = list(dict.fromkeys(detail for _, _, detail in jobs))
    return {
        "of": of,
        **{name: cell.get(name, math.nan) for name in Cell._fields},
        "stage": stage,
        "jobs": len(jobs),
        "seconds": seconds.mean(),
        "seconds_sd": seconds.std(ddof=1),
        "seconds_total": seconds.sum() if len(jobs) else math.nan,
        "images": sum(counts) / len(counts) if whole else math.nan,
        "images_per_second": sum(counts) / seconds.sum() if whole and seconds.sum() > 0 else math.nan,
        "peak_memory_mib": max((memory for (_, memory), _, _ in jobs), default=math.nan),
        "detail": details[0] if len(details) == 1 else f"{min(counts):,} to {max(counts):,}" if whole else "",
    }


def _texts(row: Row) -> list[str]:
    if not row["jobs"]:
        return [NOT_RUN] * 6
    spread = "" if math.isnan(row["seconds_sd"]) else f" ± {row['seconds_sd']:,.1f}"
    images = NOT_RUN if math.isnan(row["images"]) else row["detail"] or f"{row['images']:,.0f}"
    rate, memory = row["images_per_second"], row["peak_memory_mib"]
    return [
        str(row["jobs"]),
        f"{row['seconds']:,.1f}{spread}",
        f"{row['seconds_total']:,.0f}",
        images,
        NOT_RUN if math.isnan(rate) else f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}",
        NOT_RUN if math.isnan(memory) else f"{memory:,.0f}",
    ]


def _read(path: Path) -> tuple[float, float] | None:
    """Seconds and peak memory in MiB (NaN where Snakemake could not see it) of a benchmark file; None where there is none.

    Raises:
        RiftError: it is not one of Snakemake's.
    """
    if not path.exists():
        return None
    table = reading(path, lambda: pd.read_csv(path, sep="\t", na_values=["-", "NA"]))
    if table.empty or not {"s", "max_rss"} <= set(table) or not pd.api.types.is_numeric_dtype(table["s"]):
        raise RiftError(f"{path}: is no benchmark file of Snakemake's; delete it, and run its stage again to have one")
    return float(table["s"].mean()), float(pd.to_numeric(table["max_rss"], errors="coerce").max())


def _split_size(results: Results, cell: Cell, split: str, images: int | str) -> int | None:
    """Number of images that a setting such as ``all`` comes to."""
    if images != "all":
        return int(images)
    manifest = results.folder / "data" / cell.dataset / "manifest.json"
    return int(read_json(manifest, ("images",))["images"][split]) if manifest.exists() else None


def _times(images: int | None, number: int, what: str) -> tuple[int, str] | None:
    return None if images is None else (images * number, f"{images:,} × {number} {what}")


def _trained(results: Results, cell: Cell, seed: int, _: None) -> tuple[int, str] | None:
    history = results.run(cell, seed) / "training.csv"
    if not history.exists():
        return None
    return _times(_split_size(results, cell, "train", "all"), read_provenance(history)["rows"], "epochs")


def _measured(results: Results, cell: Cell, seed: int, _: None) -> tuple[int, str] | None:
    table = results.run(cell, seed) / "criticality.csv"
    if not table.exists():
        return None
    source = read_provenance(table)
    settings = source["settings"]["criticality"]
    return _times(_split_size(results, cell, settings["split"], settings["images"]), source["rows"], "modules")


def _finetuned(results: Results, cell: Cell, seed: int, scope: Scope) -> tuple[int, str] | None:
    history = results.run(cell, seed) / scope / "finetuning.csv"
    if not history.exists():
        return None
    source = read_provenance(history)
    images = source["settings"]["finetune"].get("images", "all")
    return _times(_split_size(results, cell, "train", images), source["rows"], "epochs")


def _swept(results: Results, cell: Cell, seed: int, scope: Scope) -> tuple[int, str] | None:
    folder = results.run(cell, seed) / scope
    if not (folder / "sweep.csv").exists() or not (folder / "selection.json").exists():
        return None
    images = read_json(folder / "selection.json", ("images",))["images"]
    return _times(images, read_provenance(folder / "sweep.csv")["rows"], "points")


def _evaluated(*metrics: Metric) -> Counts:
    """Count the images of the outcomes of some metrics."""

    def count(results: Results, cell: Cell, seed: int, variant: Variant) -> tuple[int, str] | None:
        one = results.of(seed)
        found = [one.outcomes(cell, variant, metric) for metric in metrics]
        counts = [outcomes.array.shape[1] for outcomes in found if outcomes is not None]
        return (sum(counts), " + ".join(f"{number:,}" for number in counts)) if counts else None

    return count


def _corrupted(results: Results, cell: Cell, seed: int, variant: Variant) -> tuple[int, str] | None:
    outcomes = results.of(seed).corrupted_outcomes(cell, variant)
    if not outcomes:
        return None
    return _times(len(next(iter(outcomes.values())).scores[seed]), len(outcomes), "corrupted")


STAGES = (
    Stage("train", ("train.tsv",), None, _trained),
    Stage("import", ("import.tsv",), None, lambda *_: None),
    Stage("criticality", ("criticality.tsv", "criticality/*.tsv"), None, _measured),
    Stage("finetune", ("{part}/finetune.tsv",), "scope", _finetuned),
    Stage("interpolate", ("{part}/interpolate.tsv",), "scope", _swept),
    Stage("evaluate standard", ("evaluation/{part}/standard.tsv",), "variant", _evaluated("std")),
    Stage("evaluate ood", ("evaluation/{part}/ood.tsv",), "variant", _corrupted),
    Stage(
        "evaluate adversarial",
        ("evaluation/{part}/adversarial*.tsv", "evaluation/{part}/adversarial/**/*.tsv"),
        "variant",
        _evaluated("pgd", "autoattack"),
    ),
)
