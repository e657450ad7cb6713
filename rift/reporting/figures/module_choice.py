"""What fine-tuning each module alone gains, against what is known of the module before."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from rift.config import LEAST_MODULES
from rift.errors import RiftError
from rift.layout import Cell
from rift.reporting.figures.style import COLOURS, DOUBLE, GREY, OTHER_COLOURS, legend, mark, sheet
from rift.reporting.module_gains import STATISTICS, Prediction, gains
from rift.reporting.results import Results
from rift.reporting.texts import name_of

BY_SEED = "osD^vP"
LABELS = {
    "mrc": "MRC (nats)",
    "parameters": "number of weights",
    "depth": "depth (0 first, 1 last)",
    "clean_gradient": "gradient norm, clean loss",
}
"""Labels of the axes, by the columns of ``STATISTICS``."""


@dataclass(frozen=True)
class ModuleChoice:
    """Data of the figure.

    Attributes:
        table: one row per seed and module, as of ``gains``.
    """

    table: pd.DataFrame


def collect(results: Results, cell: Cell) -> ModuleChoice:
    """Read the gains of all modules that were fine-tuned alone.

    Raises:
        RiftError: there are too few modules for a rank correlation, or an artifact is damaged.
    """
    table = gains(results, cell)
    count = table["module"].nunique()
    if count < LEAST_MODULES:
        raise RiftError(
            f"{name_of(cell)}: figure module-choice needs {LEAST_MODULES} modules that were"
            f" fine-tuned alone, and there are results for {count}; add scopes module-NAME to"
            " grid.scopes"
        )
    return ModuleChoice(table)


def draw(data: ModuleChoice) -> Figure:
    """Draw the gain of every module against each statistic, with one mark per seed and module.

    The marks of the modules that the smallest MRC chooses, as RiFT does, are larger.
    """
    table = data.table
    known = [column for column in STATISTICS if not table[column].isna().all()]
    figure = sheet(DOUBLE, 2.0)
    panels = list(figure.subplots(1, len(known), sharey=True, squeeze=False)[0])
    for axis, column in zip(panels, known, strict=True):
        _draw_statistic(axis, table, column)
    panels[0].set_ylabel("gain (points)")
    legend(figure, _entries(table), 4)
    return figure


def _draw_statistic(axis: Axes, table: pd.DataFrame, column: str) -> None:
    """Draw one panel. A logarithmic axis shows values up to 0 hollow, at its left edge."""
    values = table[column]
    hollow = pd.Series(False, index=table.index)
    if column != "depth":
        positive = values[values > 0]
        edge = float(positive.min()) / 2 if len(positive) else 1.0
        hollow = values <= 0
        values = values.clip(lower=edge)
        axis.set_xscale("log")
        # Labels of minor ticks would overlap where the values span less than a decade or two.
        axis.xaxis.set_minor_formatter(NullFormatter())
        if values.max() < 30 * values.min():
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    chosen = set(table.groupby("seed")["mrc"].idxmin())
    for number, (_, rows) in enumerate(table.groupby("seed")):
        shade, kind = _look(number)
        for row in rows.index:
            axis.plot(
                values[row],
                table["gain"][row],
                kind,
                color=shade,
                markerfacecolor="white" if hollow[row] else shade,
                markersize=6.5 if row in chosen else 3,
                alpha=0.8,
            )
    axis.axhline(0, color=GREY, linewidth=0.6)
    axis.set_xlabel(LABELS[column])
    text = Prediction.of(table, column).text
    axis.set_title(f"ρ {text}" if text else "ρ not defined")


def _look(number: int) -> tuple[str, str]:
    """Return colour and marker of a seed, by its place among the seeds."""
    shades = (COLOURS["rift"], COLOURS["robust-critical"], COLOURS["all-layers"], *OTHER_COLOURS)
    return shades[number % len(shades)], BY_SEED[number % len(BY_SEED)]


def _entries(table: pd.DataFrame) -> Iterator[tuple[Any, str]]:
    """Yield the entries of the legend."""
    for number, seed in enumerate(table["seed"].unique()):
        shade, kind = _look(number)
        yield mark(kind, color=shade, markersize=3), f"seed {seed}"
    yield mark("o", color=GREY, markersize=6.5), "least critical module (RiFT)"
