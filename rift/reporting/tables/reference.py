"""Comparison of measured numbers with the numbers of the RiFT paper."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from rift.errors import RiftError
from rift.layout import Cell
from rift.reporting import paper
from rift.reporting.outcomes import METRICS, Metric
from rift.reporting.results import Results, cells, grid_of_folder
from rift.reporting.tables import notes
from rift.reporting.tables.table import BASE, DELTA, Row, Table, frame
from rift.reporting.texts import between, name_of, signed
from rift.statistics import Interval, accuracy, over_seeds, paired_delta

COLUMNS = (
    "Ours",
    "Seeds",
    "Images",
    "Paper",
    "Ours − paper",
    "95% interval",
    "Covers the paper",
)


def compare(folder: Path) -> Table:
    """Compare all accuracies and differences of a folder that the paper prints as well.

    Raises:
        RiftError: there are no runs, the paper has no number of any, or an artifact is damaged.
    """
    results = Results(folder, grid_of_folder(folder))
    rows = list(_rows(results))
    if not rows:
        raise RiftError(
            f"{folder}: contains no evaluated run that the paper has a number of; it has cifar10,"
            " cifar100 and tiny-imagenet with resnet18, resnet34 and wrn-34-10 (pgd), and cifar10"
            " and cifar100 with resnet18 (trades, mart, awp, score)"
        )
    texts = {_heading(row): _texts(row) for row in rows}
    covered = sum(row["covered"] for row in rows)
    return Table(
        "Our numbers and the paper's",
        f"Accuracies (%) and their differences from the base ({DELTA}, points) that were measured"
        f" here and printed by Zhu et al. (ICCV 2023). The interval covers {covered} of"
        f" {len(rows)} published numbers.",
        frame(texts, pd.Index(COLUMNS), ("Run", "Number")),
        pd.DataFrame(rows),
        [
            "Intervals of accuracies: Student's t over seeds. With one seed: over test images"
            " (Wilson; OOD: bootstrap), without the variation between seeds.",
            f"Intervals of {DELTA}: paired bootstrap over test images.",
            notes.PUBLISHED,
            *notes.protocol(results),
            *notes.how_measured(results),
        ],
    )


def _rows(results: Results) -> Iterator[Row]:
    for cell in cells(results.grid):
        for variant in results.grid.variants:
            for metric in METRICS:
                yield from _compared(results, cell, variant, metric)


def _compared(results: Results, cell: Cell, variant: str, metric: Metric) -> Iterator[Row]:
    """Yield an accuracy, and its difference from the base, if they were measured and published."""
    published = paper.accuracy(cell, variant, metric)
    ours = results.outcomes(cell, variant, metric)
    if published is None or ours is None:
        return
    # All published accuracies under attack are for Linf.
    if any(images.get("attack.norm", "linf") != "linf" for images in ours.images.values()):
        return
    measured = accuracy(ours.array)
    by_seed = 100 * ours.array.mean(axis=1)
    interval = Interval(measured.low, measured.high)
    if len(by_seed) > 1:
        interval = over_seeds(by_seed)
    names: Row = {**cell._asdict(), "variant": variant, "metric": metric}
    size = {"seeds": ours.array.shape[0], "images": ours.array.shape[1]}
    yield {**names, "is_delta": False, **_numbers(measured.mean, interval, published), **size}

    base = results.outcomes(cell, BASE, metric)
    base_published = paper.accuracy(cell, BASE, metric)
    if variant == BASE or base is None or base_published is None:
        return
    before, after = base.paired(ours)
    if len(before):
        delta = paired_delta(before, after)
        interval = Interval(delta.low, delta.high)
        size = {"seeds": before.shape[0], "images": before.shape[1]}
        difference = _numbers(delta.mean, interval, published - base_published)
        yield {**names, "is_delta": True, **difference, **size}


def _numbers(ours: float, interval: Interval, published: float) -> Row:
    return {
        "mean": ours,
        "low": interval.low,
        "high": interval.high,
        "published": published,
        "difference": ours - published,
        # The paper rounds to two decimals.
        "covered": interval.low - 0.005 <= published <= interval.high + 0.005,
    }


def _heading(row: Row) -> tuple[str, str]:
    cell = Cell(row["dataset"], row["architecture"], row["regime"])
    delta = f"{DELTA} " if row["is_delta"] else ""
    return name_of(cell), f"{row['variant']}, {delta}{METRICS[row['metric']]}"


def _texts(row: Row) -> list[str]:
    interval = f"[{row['low']:.2f}, {row['high']:.2f}]"
    return [
        _number(row, row["mean"]),
        f"{row['seeds']}",
        f"{row['images']:,}",
        _number(row, row["published"]),
        signed(row["difference"]),
        between(row["low"], row["high"]) if row["is_delta"] else interval,
        "yes" if row["covered"] else "no",
    ]


def _number(row: Row, value: float) -> str:
    return signed(value) if row["is_delta"] else f"{value:.2f}"
