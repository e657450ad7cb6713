"""Means over seeds, and the bands around them."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rift.reporting.figures.style import GREY
from rift.statistics import over_seeds


def band(values: pd.DataFrame) -> "tuple[pd.Series[float], pd.Series[float]]":
    """Return Student's 95% interval of the mean over seeds; with at most two seeds, their range.

    An interval from two values would be too wide to be of use.

    Args:
        values: one row per point, one column per seed.
    """
    if values.shape[1] <= 2:
        return values.min(axis=1), values.max(axis=1)
    bounds = pd.DataFrame([over_seeds(row) for row in values.to_numpy()], index=values.index)
    return bounds["low"], bounds["high"]


def draw_band(axis: Axes, values: pd.DataFrame, shade: str) -> None:
    """Draw the band around the means; one seed has none.

    Args:
        axis: panel, with the index of the values as its x axis.
        values: one row per point, one column per seed.
        shade: colour.
    """
    if values.shape[1] > 1:
        low, high = band(values)
        axis.fill_between(values.index, low, high, color=shade, alpha=0.16, linewidth=0)


def band_entry(seeds: int) -> tuple[Any, str]:
    """Return the entry of the legend for the bands of two seeds or more."""
    text = "range of both seeds" if seeds == 2 else f"95% interval of the mean of {seeds} seeds"
    return (Patch(facecolor=GREY, alpha=0.3, linewidth=0), Line2D([], [], color=GREY)), text
