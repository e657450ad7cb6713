"""Accuracy of every variant on every corruption at every severity."""

import math
from collections.abc import Iterator

import pandas as pd

from rift import layout
from rift.errors import RiftError
from rift.layout import Cell
from rift.reporting.outcomes import ALL, MEAN, with_means
from rift.reporting.results import Results, cells
from rift.reporting.tables import notes
from rift.reporting.tables.differences import difference, numbers
from rift.reporting.tables.table import (
    BASE,
    DELTA,
    LEVEL,
    NOT_RUN,
    Row,
    Table,
    delta_text,
    frame,
    mark,
)
from rift.reporting.texts import name_of, seeds_text, signed
from rift.statistics import accuracy

_DIFFERENCE = ("delta_mean", "delta_low", "delta_high", "p", "gained", "lost", "distinguishable")


def corruptions(results: Results) -> Table:
    """Make the table of base and scopes on every corruption, with one column per severity."""
    grid = results.grid
    rows = [row for cell in cells(grid) for row in _measure(results, cell)]
    if not rows:
        raise RiftError(
            f"{results.folder}: no run of the grid has been evaluated on corrupted images; run rift"
            " evaluate ood first"
        )
    severities = sorted({row["severity"] for row in rows} - {MEAN})
    columns = pd.Index(["Mean", *(f"Severity {severity}" for severity in severities)])
    found = {(_head(row), row["corruption"], row["severity"]): row for row in rows}
    texts: dict[tuple[str, str], list[str]] = {}
    for head, corruption, _ in found:
        places = [found.get((head, corruption, severity)) for severity in (MEAN, *severities)]
        name = "mean" if corruption == ALL else corruption.replace("_", " ")
        texts[head, name] = [NOT_RUN if row is None else _text(row) for row in places]

    shown = frame(texts, columns, ("Base: variant", "Corruption"))
    over = f"Mean over {seeds_text(grid.seeds)}."
    return Table(
        "Accuracy by corruption",
        "Accuracy (%) on corrupted test images by corruption and severity, of the base and of every"
        f" fine-tuned variant. In brackets: the difference from the base ({DELTA}, points).",
        shown,
        numbers(rows),
        [
            over if len(grid.seeds) > 1 else f"One seed: {seeds_text(grid.seeds)}.",
            f"{DELTA} of a mean is followed by its 95% interval (paired bootstrap over test"
            f" images). An asterisk marks a {DELTA} that is distinguishable from zero: its interval"
            f" excludes zero, and the p of the exact McNemar test is at most {LEVEL:g}. The test"
            " applies to single severities only: a mean of several outcomes per image has no p.",
            "There is no correction for multiple comparisons: among so many differences, chance"
            " alone would mark about one in twenty. The CSV file contains all intervals and p.",
            *notes.not_run(results, dict.fromkeys(cells(grid), grid.variants), shown, ("ood",)),
            *_sources(results),
        ],
    )


def _measure(results: Results, cell: Cell) -> Iterator[Row]:
    """Yield one row per variant, corruption and severity, and the rows of their means."""
    base = with_means(results.corrupted_outcomes(cell, BASE))
    for variant in results.grid.variants:
        outcomes = base
        if variant != BASE:
            outcomes = with_means(results.corrupted_outcomes(cell, variant))
        for (corruption, severity), measured in outcomes.items():
            row: Row = {**cell._asdict(), "variant": variant}
            row |= {"corruption": corruption, "severity": severity}
            row |= accuracy(measured.array)._asdict()
            row |= dict.fromkeys(_DIFFERENCE, math.nan)
            if variant != BASE and (corruption, severity) in base:
                row |= difference(base[corruption, severity], measured)
            yield row


def _head(row: Row) -> str:
    cell = Cell(row["dataset"], row["architecture"], row["regime"])
    return f"{name_of(cell)}: {row['variant']}"


def _text(row: Row) -> str:
    text = f"{row['mean']:.2f}"
    if row["variant"] == BASE:
        return text
    if math.isnan(row["delta_mean"]):
        return f"{text} ({NOT_RUN})"
    is_mean = row["severity"] == MEAN
    delta = delta_text(row) if is_mean else f"{signed(row['delta_mean'])}{mark(row)}"
    return f"{text} ({delta})"


def _sources(results: Results) -> list[str]:
    """Return the source and the number of the corrupted images, by data set."""
    sources: dict[str, None] = {}
    for cell in cells(results.grid):
        evaluated = results.with_files(cell, layout.result(BASE, "ood"))
        outcomes = evaluated.outcomes(cell, BASE, "ood")
        if outcomes is not None:
            images = outcomes.array.shape[1]
            kinds = notes.corruptions(evaluated, cell)
            sources[f"{cell.dataset}: on {images} test images each, {kinds}."] = None
    return list(sources)
