"""Accuracy of every variant after every corruption at every severity."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from rift.config import Grid
from rift.errors import RiftError
from rift.reporting.results import Cell, Outcomes, Results, cells
from rift.reporting.tables import notes
from rift.reporting.tables.comparisons import difference, numbers
from rift.reporting.tables.table import (
    BASE,
    DELTA,
    NOT_RUN,
    Row,
    Table,
    delta_text,
    frame,
    mark,
    name_of,
    seeds_of,
    signed,
)
from rift.statistics import accuracy

MEAN = "mean"
ALL = "all"


def corruptions(folder: Path, grid: Grid) -> Table:
    """Base and scopes on every corruption, a column a severity."""
    results = Results(folder, grid)
    rows = [row for cell in cells(grid) for row in _measure(results, cell)]
    if not rows:
        raise RiftError(
            f"{folder}: no run of the grid has been evaluated on corrupted images; run rift evaluate ood first"
        )
    severities = sorted({row["severity"] for row in rows} - {MEAN})
    columns = pd.Index(["Mean", *(f"Severity {severity}" for severity in severities)])
    found = {(_head(row), row["corruption"], row["severity"]): row for row in rows}
    texts: dict[tuple[str, str], list[str]] = {}
    for head, corruption, _ in found:
        places = [found.get((head, corruption, severity)) for severity in (MEAN, *severities)]
        texts[head, "mean" if corruption == ALL else corruption.replace("_", " ")] = [
            NOT_RUN if row is None else _text(row) for row in places
        ]
    return Table(
        "Accuracy by corruption",
        "Accuracy (%) on corrupted test images by corruption and severity: of the base, and of what fine-tuning makes of it,"
        f" with the difference from the base ({DELTA}, points) behind it.",
        frame(texts, columns, ("Base: variant", "Corruption")),
        numbers(rows),
        [
            f"Mean over {seeds_of(grid)}." if len(grid.seeds) > 1 else f"One seed: {seeds_of(grid)}.",
            "In brackets behind a mean: the 95% interval of its Δ (paired bootstrap over test images). An asterisk marks a Δ"
            " told from zero: its interval leaves out zero, and the p of the exact McNemar test is at most 0.05 (of single"
            " severities; a mean of several outcomes an image has none). Of so many differences one in twenty would be marked"
            " by chance alone: nothing is corrected for their number. The CSV file has every interval and p.",
            *notes.not_run(results, dict.fromkeys(cells(grid), grid.variants), ("ood",)),
            *_sources(results),
        ],
    )


def _measure(results: Results, cell: Cell) -> Iterator[Row]:
    """A row for each variant, corruption and severity, and for the means over severities, corruptions and both."""
    base = with_means(results.corrupted_outcomes(cell, BASE))
    for variant in results.grid.variants:
        outcomes = base if variant == BASE else with_means(results.corrupted_outcomes(cell, variant))
        for (corruption, severity), of_one in outcomes.items():
            row: Row = {**cell._asdict(), "variant": variant, "corruption": corruption, "severity": severity}
            row |= accuracy(of_one.array)._asdict()
            columns = ("delta_mean", "delta_low", "delta_high", "p", "gained", "lost", "distinguishable")
            row |= dict.fromkeys(columns, math.nan)
            if variant != BASE and (corruption, severity) in base:
                row |= difference(base[corruption, severity], of_one)
            yield row


def with_means(outcomes: dict[tuple[str, int], Outcomes]) -> dict[tuple[str, str], Outcomes]:
    """Put the means over severities, corruptions and both behind what they are of."""
    found: dict[tuple[str, str], Outcomes] = {}
    names = list(dict.fromkeys(corruption for corruption, _ in outcomes))
    severities = list(dict.fromkeys(severity for _, severity in outcomes))
    for corruption in names:
        found |= {(corruption, str(severity)): outcomes[corruption, severity] for severity in severities}
        found[corruption, MEAN] = _mean([outcomes[corruption, severity] for severity in severities])
    if outcomes:
        found |= {(ALL, str(severity)): _mean([outcomes[name, severity] for name in names]) for severity in severities}
        found[ALL, MEAN] = _mean(list(outcomes.values()))
    return found


def _mean(parts: list[Outcomes]) -> Outcomes:
    first = parts[0]
    scores = {seed: np.mean([part.scores[seed] for part in parts], axis=0) for seed in first.seeds}
    return Outcomes(scores, first.files, first.examples, first.settings)


def _head(row: Row) -> str:
    return f"{name_of(Cell(row['dataset'], row['architecture'], row['regime']))}: {row['variant']}"


def _text(row: Row) -> str:
    text = f"{row['mean']:.2f}"
    if row["variant"] == BASE:
        return text
    if math.isnan(row["delta_mean"]):
        return f"{text} ({NOT_RUN})"
    delta = delta_text(row) if row["severity"] == MEAN else f"{signed(row['delta_mean'])}{mark(row)}"
    return f"{text} ({delta})"


def _sources(results: Results) -> list[str]:
    said: dict[str, None] = {}
    for cell in cells(results.grid):
        there = results.having(cell, f"evaluation/{BASE}/ood.csv")
        found = there.outcomes(cell, BASE, "ood")
        if found is not None:
            said[f"{cell.dataset}: on {found.array.shape[1]} test images each, {notes.corruptions(there, cell)}."] = (
                None
            )
    return list(said)
