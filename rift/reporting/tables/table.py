"""The type of a table, and the texts of its numbers."""

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rift.config import Variant
from rift.reporting.texts import between, signed
from rift.statistics import Delta

NOT_RUN = "–"
BASE: Variant = "base"
DELTA = "Δ"
EXACT = f"{DELTA}, p"
PAPER = "paper"
LEVEL = 0.05  # largest p of a difference that is marked

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table for readers, and its numbers for programs.

    Attributes:
        title: name of the table.
        caption: one or two sentences about its content.
        shown: texts for readers; the index contains the headings of the rows.
        numbers: unrounded numbers, one row per number or pair of numbers.
        notes: how to read the table, and how its numbers were made.
    """

    title: str
    caption: str
    shown: pd.DataFrame
    numbers: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def is_distinguishable(delta: Delta, p: float) -> bool:
    """Return whether a difference is distinguishable from zero.

    Args:
        delta: the difference. Its interval must exclude zero.
        p: p of the exact test, at most ``LEVEL``; NaN where there is no test.
    """
    return delta.excludes_zero and not p > LEVEL


def accuracy_text(row: Row, seeds: int) -> str:
    """Return an accuracy with its deviation over seeds, or with the interval of a single seed.

    Args:
        row: with ``mean`` and optionally ``sd``, ``low``, ``high`` and ``seeds``.
        seeds: number of seeds of the grid. A smaller number of evaluated seeds is shown.
    """
    mean, sd, low = (row.get(key, math.nan) for key in ("mean", "sd", "low"))
    if math.isnan(mean):
        return NOT_RUN
    text = f"{mean:.2f}"
    if not math.isnan(sd):
        text += f" ± {sd:.2f}"
    elif not math.isnan(low):
        text += f" [{low:.2f}, {row['high']:.2f}]"
    evaluated = row.get("seeds", seeds)
    return text if evaluated == seeds else f"{text} ({evaluated:.0f} of {seeds} seeds)"


def delta_text(row: Row) -> str:
    """Return a difference with its interval and its mark."""
    mean, low, high = (row.get(f"delta_{name}", math.nan) for name in Delta._fields)
    if math.isnan(mean):
        return NOT_RUN
    if math.isnan(low):
        return signed(mean)
    return f"{signed(mean)}{mark(row)} {between(low, high)}"


def mark(row: Row) -> str:
    """Return an asterisk if the difference of a row is distinguishable from zero."""
    return "*" if row["distinguishable"] is True else ""


def p_text(p: float) -> str:
    """Return a p with two or three decimals; an empty text where there is no test."""
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def spread(values: "pd.Series[float]", digits: int) -> str:
    """Return the mean and the standard deviation of values over seeds."""
    if values.isna().all():
        return NOT_RUN
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else mean


def frame(
    texts: dict[tuple[str, str], list[str]], columns: "pd.Index[Any]", names: tuple[str, str]
) -> pd.DataFrame:
    """Return texts as a frame whose rows have two headings each."""
    index = pd.MultiIndex.from_tuples(texts, names=names)
    return pd.DataFrame(list(texts.values()), index=index, columns=columns)
