"""The rows and columns of a table that compares variants."""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rift.layout import Cell
from rift.reporting.outcomes import METRICS
from rift.reporting.tables.table import (
    DELTA,
    EXACT,
    NOT_RUN,
    PAPER,
    Row,
    accuracy_text,
    delta_text,
    frame,
    p_text,
)

AVERAGE = "average"
ALPHA = "α"

# Texts by block and line, and then by column.
_Texts = dict[tuple[str, str], dict[Hashable, str]]


@dataclass(frozen=True)
class Arrangement:
    """Rows and columns of a comparison.

    Attributes:
        block: the parts of a cell that all lines of a block share.
        labels: whether a line has differences, by its label.
        lines: label and cell of every line, in order.
        by_dataset: whether data sets are columns.
        paper: whether every block has lines of the paper.
        averages: whether there are averages over data sets and architectures.
        seeds: number of seeds of the grid.
    """

    block: tuple[str, ...]
    labels: Mapping[str, bool]
    lines: list[tuple[str, Cell]]
    by_dataset: bool
    paper: bool
    averages: bool
    seeds: int

    @property
    def columns(self) -> "pd.Index[Any]":
        """Return the columns."""
        if not self.by_dataset:
            return pd.Index([*METRICS.values(), ALPHA])
        datasets = list(dict.fromkeys(cell.dataset for _, cell in self.lines))
        average = [AVERAGE] if self.averages and len(datasets) > 1 else []
        return pd.MultiIndex.from_product([[*datasets, *average], METRICS.values()])

    def heading(self, names: Mapping[str, str]) -> str:
        """Return the heading of a block from the parts of a cell."""
        shown = [part for part in self.block if not (self.by_dataset and part == "dataset")]
        return ", ".join(names[part] for part in shown)

    def column(self, row: Row) -> Hashable:
        """Return the column of a row."""
        metric = METRICS[row["metric"]]
        return (row["dataset"], metric) if self.by_dataset else metric

    def blocks(self, rows: Iterable[Row]) -> dict[str, list[str]]:
        """Return the labels of all blocks by their headings, averages last."""
        found: dict[str, dict[str, None]] = {}
        for label, cell in self.lines:
            found.setdefault(self.heading(cell._asdict()), {})[label] = None
        for row in rows:
            if self.heading(row) not in found:
                found[self.heading(row)] = self._averaged_labels(row)
        return {heading: list(labels) for heading, labels in found.items()}

    def _averaged_labels(self, row: Row) -> dict[str, None]:
        """Return the labels of the lines that an average is the mean of."""
        averaged = {part: AVERAGE for part in Cell._fields if row[part] == AVERAGE}
        return {
            label: None
            for label, cell in self.lines
            if self.heading({**cell._asdict(), **averaged}) == self.heading(row)
        }


def arranged(
    arrangement: Arrangement, rows: Iterable[Row], alphas: Mapping[tuple[Cell, str], str]
) -> pd.DataFrame:
    """Return the texts of a comparison: one row per line, followed by rows of its difference.

    Args:
        arrangement: rows and columns. All of them are shown, even where nothing was run.
        rows: the numbers.
        alphas: selected α by cell and label, where it has a column.
    """
    rows = list(rows)
    measured, published = _measured(arrangement, rows), _published(arrangement, rows)
    for (cell, label), text in alphas.items():
        heading = arrangement.heading(cell._asdict())
        measured.setdefault((heading, label), {})[ALPHA] = text or NOT_RUN

    columns = arrangement.columns
    texts: dict[tuple[str, str], list[str]] = {}
    for heading, labels in arrangement.blocks(rows).items():
        for kind, line in _lines(arrangement, labels, (DELTA, EXACT)):
            found = measured.get((heading, line), {})
            empty = "" if kind == EXACT else NOT_RUN
            texts[heading, line] = [
                found.get(name, "" if kind and name == ALPHA else empty) for name in columns
            ]
        lines = [line for _, line in _lines(arrangement, labels, (DELTA,))]
        printed = [line for line in lines if (heading, line) in published]
        # One row at least, where it is asked for, shows that the paper prints nothing.
        for line in printed or (labels[:1] if arrangement.paper else []):
            found = published.get((heading, line), {})
            texts[f"{heading} ({PAPER})", line] = [
                found.get(name, "" if name == ALPHA else NOT_RUN) for name in columns
            ]

    table = frame(texts, columns, ("Base", "Method" if arrangement.by_dataset else "Fine-tuned"))
    # The row above a difference shows which line it belongs to.
    short = {f"{kind} {label}": kind for label in arrangement.labels for kind in (DELTA, EXACT)}
    return table.rename(index=short, level=1)


def _lines(
    arrangement: Arrangement, labels: Iterable[str], kinds: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Yield every line with its kind: the accuracies, and the kinds of differences."""
    for label in labels:
        yield "", label
        if arrangement.labels[label]:
            yield from ((kind, f"{kind} {label}") for kind in kinds)


def _measured(arrangement: Arrangement, rows: Iterable[Row]) -> _Texts:
    texts: _Texts = {}
    for row in rows:
        heading, label = arrangement.heading(row), row["method"]
        kinds = {label: accuracy_text(row, arrangement.seeds)}
        if arrangement.labels[label]:
            kinds[f"{DELTA} {label}"] = delta_text(row)
            kinds[f"{EXACT} {label}"] = p_text(row.get("p", math.nan))
        for line, text in kinds.items():
            texts.setdefault((heading, line), {})[arrangement.column(row)] = text
    return texts


def _published(arrangement: Arrangement, rows: Iterable[Row]) -> _Texts:
    texts: _Texts = {}
    for row in rows:
        if math.isnan(row["published"]):
            continue
        heading, label = arrangement.heading(row), row["method"]
        kinds = {label: f"{row['published']:.2f}"}
        if arrangement.labels[label]:
            kinds[f"{DELTA} {label}"] = delta_text({"delta_mean": row["published_delta"]})
        for line, text in kinds.items():
            texts.setdefault((heading, line), {})[arrangement.column(row)] = text
    return texts
