"""What was measured beside what the RiFT paper prints."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from rift.errors import RiftError
from rift.reporting import published
from rift.reporting.results import METRICS, Cell, Results, cells, found
from rift.reporting.tables import notes
from rift.reporting.tables.table import BASE, DELTA, Row, Table, between, frame, name_of, signed
from rift.statistics import Interval, accuracy, over_seeds, paired_delta


def compare(folder: Path) -> Table:
    """Set every number that was measured and that the paper prints beside it: accuracies, and differences from the base.

    Raises:
        RiftError: there are no runs, or none that the paper has a number of, or an artifact is damaged.
    """
    grid = found(folder)
    results = Results(folder, grid)
    rows = list(_rows(results))
    if not rows:
        raise RiftError(
            f"{folder}: holds no evaluated run that the paper has a number of; it has cifar10, cifar100 and tiny-imagenet with"
            " resnet18, resnet34 and wrn-34-10 (pgd), and cifar10 and cifar100 with resnet18 (trades, mart, awp, score)"
        )
    texts = {
        (
            name_of(_cell(row)),
            f"{row['variant']}, {DELTA * row['is_delta']} {METRICS[row['metric']]}".replace(",  ", ", "),
        ): [
            _number(row, row["mean"]),
            f"{row['seeds']}",
            f"{row['images']:,}",
            _number(row, row["published"]),
            signed(row["difference"]),
            between(row["low"], row["high"]) if row["is_delta"] else f"[{row['low']:.2f}, {row['high']:.2f}]",
            "yes" if row["covered"] else "no",
        ]
        for row in rows
    }
    columns = pd.Index(["Ours", "Seeds", "Images", "Paper", "Ours − paper", "95% interval", "Covers the paper"])
    covered = sum(row["covered"] for row in rows)
    return Table(
        "Ours and the paper's",
        f"Accuracies (%) and their differences from the base ({DELTA}, points) that were measured and that Zhu et al. (ICCV"
        f" 2023) print: the interval covers {covered} of {len(rows)} published numbers.",
        frame(texts, columns, ("Run", "Number")),
        pd.DataFrame(rows),
        [
            "Intervals of accuracies: of several seeds Student's t over seeds; of one seed over test images (Wilson; of OOD a"
            " bootstrap), which does not say how far another seed would be. Intervals of Δ: paired bootstrap over test images.",
            notes.PRINTED,
            *([said] if (said := notes.protocol(results)) else []),
            *notes.how_measured(results),
        ],
    )


def _rows(results: Results) -> Iterator[Row]:
    for cell in cells(results.grid):
        for variant in results.grid.variants:
            for metric in METRICS:
                printed, ours = published.accuracy(cell, variant, metric), results.outcomes(cell, variant, metric)
                if printed is None or ours is None:
                    continue
                measured = accuracy(ours.array)
                by_seed = 100 * ours.array.mean(axis=1)
                around = over_seeds(by_seed) if len(by_seed) > 1 else Interval(measured.low, measured.high)
                told: Row = {**cell._asdict(), "variant": variant, "metric": metric}
                yield _row(told, False, measured.mean, around, printed, ours.array.shape)
                base, base_printed = results.outcomes(cell, BASE, metric), published.accuracy(cell, BASE, metric)
                if variant != BASE and base is not None and base_printed is not None:
                    before, after = base.paired(ours)
                    if len(before):
                        delta = paired_delta(before, after)
                        around = Interval(delta.low, delta.high)
                        yield _row(told, True, delta.mean, around, printed - base_printed, before.shape)


def _row(told: Row, is_delta: bool, ours: float, around: Interval, printed: float, shape: tuple[int, ...]) -> Row:
    return {
        **told,
        "is_delta": is_delta,
        "mean": ours,
        "low": around.low,
        "high": around.high,
        "published": printed,
        "difference": ours - printed,
        # The paper rounds to two decimals.
        "covered": around.low - 0.005 <= printed <= around.high + 0.005,
        "seeds": shape[0],
        "images": shape[1],
    }


def _number(row: Row, value: float) -> str:
    return signed(value) if row["is_delta"] else f"{value:.2f}"


def _cell(row: Row) -> Cell:
    return Cell(row["dataset"], row["architecture"], row["regime"])
