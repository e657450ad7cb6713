"""How critical every module is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rift import layout
from rift.config import Scope
from rift.layout import Cell
from rift.reporting.figures.style import (
    DOUBLE,
    GREY,
    INK,
    SMALL,
    colour,
    label,
    legend,
    mark,
    sheet,
)
from rift.reporting.results import Results
from rift.statistics import ERRORS

# A page is nine inches high: more modules need two columns, without room for the drop of accuracy.
ONE_COLUMN = 40
BY_SEED = "osD^vP"
ROUGH = 0.35
"""Opacity of modules that a race measured on fewer images than the chosen ones."""
# These scopes choose more than one module, or always that of rift.
OMITTED = (
    "all-layers",
    "top2",
    "top3",
    "top5",
    "rift-frozen",
    "norms",
    "more-training",
    "mixed-training",
    "earn-then-spend",
    "rift-then-spend",
)


@dataclass(frozen=True)
class ModuleCriticality:
    """Data of the figure.

    Attributes:
        table: the criticality tables of all seeds, modules in the network's order.
        chosen: the scopes that chose a module, by seed and module.
        seeds: seeds of the table.
        scopes: all scopes that are asked for, in the order of their colours.
    """

    table: pd.DataFrame
    chosen: dict[tuple[int, str], list[Scope]]
    seeds: tuple[int, ...]
    scopes: tuple[Scope, ...]


def collect(results: Results, cell: Cell) -> ModuleCriticality:
    """Read the criticality of all modules, and the modules that were fine-tuned so far.

    Raises:
        RiftError: criticality was not measured, or an artifact is damaged.
    """
    measured = results.with_files(cell, *layout.figure_files("criticality"))
    # Without any seed, reading all of them raises an error that names the missing file.
    table = (measured if measured.grid.seeds else results).criticality(cell)

    chosen: dict[tuple[int, str], list[Scope]] = {}
    for scope in measured.grid.scopes:
        if scope in OMITTED:
            continue
        tuned = measured.with_fine_tuning(cell, scope)
        modules = tuned.fine_tuned_modules(cell, scope)
        for seed, names in zip(tuned.grid.seeds, modules, strict=True):
            for name in names:
                chosen.setdefault((seed, name), []).append(scope)
    return ModuleCriticality(table, chosen, measured.grid.seeds, measured.grid.scopes)


def draw(data: ModuleCriticality) -> Figure:
    """Draw the MRC and the drop of robust accuracy of every module, with one mark per seed.

    More than forty modules are drawn in two columns, which show the MRC only.
    """
    table = data.table
    modules = list(table["module"].unique())
    half = -(-len(modules) // 2)
    one_column = len(modules) <= ONE_COLUMN
    columns = [modules] if one_column else [modules[:half], modules[half:]]
    rows = len(columns[0])
    figure = sheet(DOUBLE, 0.55 + rows * (0.112 if rows > 15 else 0.2))
    panels: list[Axes] = list(figure.subplots(1, 2, sharey=one_column, sharex=not one_column))

    # A logarithmic axis cannot show values up to 0: they are drawn hollow at its edge.
    edge = _edge(table["mrc"] - ERRORS * table["mrc_error"].fillna(0), table["mrc"])
    error = ERRORS * table["mrc_error"]
    table = table.assign(
        shown=table["mrc"].clip(lower=edge),
        low=(table["mrc"] - error).clip(lower=edge),
        high=(table["mrc"] + error).clip(lower=edge),
    )
    for axis, part in zip(panels, columns, strict=False):
        _draw_column(axis, table, part, data, "shown")
        axis.set_xscale("log")
        axis.set_xlim(left=0.8 * edge, right=1.15 * float(table["high"].max()))
        _set_ticks(axis)
        axis.set_xlabel("MRC (nats), with 95% interval")
    if one_column:
        _draw_column(panels[1], table, modules, data, "robust_accuracy_drop")
        panels[1].axvline(0, color=GREY, linewidth=0.6)
        panels[1].set_xlabel("drop of accuracy under PGD (points)")
        panels[1].tick_params(labelleft=False, left=False)
    legend(figure, _entries(data), 3)
    return figure


def _draw_column(
    axis: Axes, table: pd.DataFrame, modules: list[str], data: ModuleCriticality, column: str
) -> None:
    """Draw a value of some modules from top to bottom, seeds next to each other."""
    size = 3.0 if len(modules) <= 15 else 2.2
    for number, seed in enumerate(data.seeds):
        rows = table[table["seed"] == seed].set_index("module").reindex(modules)
        distance = min(0.22, 0.75 / len(data.seeds))
        places = np.arange(len(modules)) + distance * (number - (len(data.seeds) - 1) / 2)
        if column == "shown":
            axis.hlines(places, rows["low"], rows["high"], color=GREY, linewidth=0.7, zorder=2)
        for place, module, value, mrc, settled in zip(
            places, modules, rows[column], rows["mrc"], rows["settled"], strict=True
        ):
            # Of two scopes that chose the module, the second colours the rim of the mark.
            scopes = data.chosen.get((seed, module), [])
            shades = [colour(scope, data.scopes) for scope in scopes] or [GREY]
            axis.plot(
                value,
                place,
                BY_SEED[number % len(BY_SEED)],
                color=shades[0],
                markerfacecolor="white" if mrc <= 0 and column == "shown" else shades[0],
                markeredgecolor=shades[-1],
                markeredgewidth=1.0,
                markersize=size * 1.7 if scopes else size,
                alpha=None if settled else ROUGH,
                zorder=4 if scopes else 3,
            )
    axis.set_yticks(np.arange(len(modules)), modules, fontsize=SMALL)
    axis.set_ylim(len(modules) - 0.4, -0.6)


def _entries(data: ModuleCriticality) -> Iterator[tuple[Any, str]]:
    """Yield the entries of the legend."""
    present = {scope for scopes in data.chosen.values() for scope in scopes}
    for scope in data.scopes:
        if scope in present:
            yield Patch(color=colour(scope, data.scopes)), label(scope)
    yield Patch(color=GREY), "other modules"
    if len(data.seeds) > 1:
        for number, seed in enumerate(data.seeds):
            kind = BY_SEED[number % len(BY_SEED)]
            yield mark(kind, color=GREY, markersize=3.5), f"seed {seed}"
    if not data.table["settled"].all():
        yield mark("o", color=GREY, alpha=ROUGH, markersize=3.5), "measured on fewer images"
    if (data.table["mrc"] <= 0).any():
        yield mark("o", color=INK, markerfacecolor="white", markersize=3.5), "0 or below"


def _edge(low: "pd.Series[float]", values: "pd.Series[float]") -> float:
    """Return where a logarithmic axis begins.

    It is below all lower ends, but tiny values do not stretch the axis.
    """
    positive = values[values > 0]
    least = min(low.min(), 0.5 * values.min())
    if not len(positive):
        return 1e-5
    return float(least if least > 0 else max(0.5 * positive.min(), 1e-5 * positive.max()))


def _set_ticks(axis: Axes) -> None:
    """Set ticks with plain numbers: at 1, 2 and 5 of each decade if there are few decades."""
    low, high = axis.get_xlim()
    few = high / low < 300
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=12))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
