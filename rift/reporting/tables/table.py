"""What a table is, and how numbers are written in it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rift.config import Grid, Variant
from rift.reporting.results import Cell
from rift.statistics import Delta

NOT_RUN = "–"
BASE: Variant = "base"
DELTA = "Δ"
EXACT = f"{DELTA}, p"
PAPER = "paper"
ALPHA = 0.05  # a p up to this tells a difference from zero

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table to read and its numbers to compute with.

    Attributes:
        title: what it is called.
        caption: what it shows, in a sentence or two.
        shown: texts as a reader sees them; the index holds the row headings.
        numbers: one row a number or pair of numbers, unrounded.
        notes: how the numbers were made.
    """

    title: str
    caption: str
    shown: pd.DataFrame
    numbers: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def name_of(cell: Cell) -> str:
    return ", ".join(cell)


def signed(value: float, digits: int = 2) -> str:
    """Write a difference with its sign; what rounds to zero is not negative."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def between(low: float, high: float) -> str:
    return f"[{signed(low)}, {signed(high)}]"


def is_told_from_zero(delta: Delta, p: float) -> bool:
    """Say whether a difference is distinguishable from zero: by its interval, and by the exact test where there is one."""
    return delta.leaves_out_zero and not p > ALPHA


def accuracy_text(row: Row, seeds: int) -> str:
    """Write an accuracy with its deviation over seeds, or of a single seed with its interval; and how many there are.

    Args:
        row: with ``mean`` and, if there are any, ``sd``, ``low``, ``high`` and ``seeds``.
        seeds: how many it should be of.
    """
    mean, sd, low = (row.get(key, math.nan) for key in ("mean", "sd", "low"))
    if math.isnan(mean):
        return NOT_RUN
    text = f"{mean:.2f}"
    if not math.isnan(sd):
        text += f" ± {sd:.2f}"
    elif not math.isnan(low):
        text += f" [{low:.2f}, {row['high']:.2f}]"
    run = row.get("seeds", seeds)
    return text if run == seeds else f"{text} ({run:.0f} of {seeds} seeds)"


def delta_text(row: Row) -> str:
    """Write a difference with its interval, marked where it is told from zero."""
    mean, low, high = (row.get(f"delta_{name}", math.nan) for name in Delta._fields)
    if math.isnan(mean):
        return NOT_RUN
    if math.isnan(low):
        return signed(mean)
    return f"{signed(mean)}{mark(row)} {between(low, high)}"


def mark(row: Row) -> str:
    return "*" if row["distinguishable"] is True else ""


def p_text(p: float) -> str:
    """Write a p with two decimals, or as far as it takes; none where there is no test."""
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def spread(values: "pd.Series[float]", digits: int) -> str:
    if values.isna().all():
        return NOT_RUN
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else mean


def frame(texts: dict[tuple[str, str], list[str]], columns: "pd.Index[Any]", names: tuple[str, str]) -> pd.DataFrame:
    """Arrange texts in rows with two headings each, and columns."""
    index = pd.MultiIndex.from_tuples(texts, names=names)
    return pd.DataFrame(list(texts.values()), index=index, columns=columns)


def seeds_of(grid: Grid) -> str:
    return f"seed {grid.seeds[0]}" if len(grid.seeds) == 1 else f"seeds {', '.join(map(str, grid.seeds))}"


def listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
