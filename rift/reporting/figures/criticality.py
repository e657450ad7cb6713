"""How critical every module is."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rift.config import Scope
from rift.reporting.figures.style import DOUBLE, GREY, INK, SMALL, colour, label, legend, mark, sheet
from rift.reporting.results import Cell, Results
from rift.statistics import ERRORS

# More modules than these go into two columns, and only their MRC: a page is nine inches high.
ONE_COLUMN = 40
BY_SEED = "osD^vP"


def draw(results: Results, cell: Cell) -> Figure:
    """MRC and drop of robust accuracy of every module in the network's order, a mark a seed; and what scopes have chosen.

    Of more than forty modules the MRC alone, in two columns. Choices of scopes that have not been fine-tuned yet are left out.
    """
    run = results.having(cell, "criticality.csv")
    table = (run if run.grid.seeds else results).criticality(cell)
    modules = list(table["module"].unique())
    columns = (
        [modules]
        if len(modules) <= ONE_COLUMN
        else [modules[: -(-len(modules) // 2)], modules[-(-len(modules) // 2) :]]
    )
    rows = len(columns[0])
    figure = sheet(DOUBLE, 0.55 + rows * (0.112 if rows > 15 else 0.2))
    panels: list[Axes] = list(figure.subplots(1, 2, sharey=len(columns) == 1, sharex=len(columns) == 2))
    takers = _takers(run, cell)
    # What fell to 0 or below has no place on a logarithmic axis: it is drawn hollow at its edge.
    edge = _edge(table["mrc"] - ERRORS * table["mrc_error"].fillna(0), table["mrc"])
    error = ERRORS * table["mrc_error"]
    table = table.assign(
        shown=table["mrc"].clip(lower=edge),
        low=(table["mrc"] - error).clip(lower=edge),
        high=(table["mrc"] + error).clip(lower=edge),
    )
    for axis, part in zip(panels, columns, strict=False):
        _column(axis, table, part, run, takers, "shown")
        axis.set_xscale("log")
        axis.set_xlim(left=0.8 * edge, right=1.15 * float(table["high"].max()))
        _ticks(axis)
        axis.set_xlabel("MRC (nats), with 95% interval")
    if len(columns) == 1:
        _column(panels[1], table, modules, run, takers, "robust_accuracy_drop")
        panels[1].axvline(0, color=GREY, linewidth=0.6)
        panels[1].set_xlabel("drop of accuracy under PGD (points)")
        panels[1].tick_params(labelleft=False, left=False)
    legend(figure, _entries(run, takers, bool((table["mrc"] <= 0).any())), 3)
    return figure


def _takers(run: Results, cell: Cell) -> dict[tuple[int, str], list[Scope]]:
    """Which scopes of one module each have chosen it, by seed and module."""
    takers: dict[tuple[int, str], list[Scope]] = {}
    for scope in run.grid.scopes:
        if scope not in ("all-layers", "top2", "top3", "top5"):
            tuned = run.having(cell, f"{scope}/finetuned.safetensors")
            for seed, chosen in zip(tuned.grid.seeds, tuned.chosen(cell, scope), strict=True):
                for module in chosen:
                    takers.setdefault((seed, module), []).append(scope)
    return takers


def _column(
    axis: Axes,
    table: pd.DataFrame,
    modules: list[str],
    run: Results,
    takers: dict[tuple[int, str], list[Scope]],
    column: str,
) -> None:
    """Draw a value of these modules, from above to below, the seeds of one beside each other."""
    seeds, scopes = run.grid.seeds, run.grid.scopes
    size = 3.0 if len(modules) <= 15 else 2.2
    for number, seed in enumerate(seeds):
        rows = table[table["seed"] == seed].set_index("module").reindex(modules)
        places = np.arange(len(modules)) + min(0.22, 0.75 / len(seeds)) * (number - (len(seeds) - 1) / 2)
        if column == "shown":
            axis.hlines(places, rows["low"], rows["high"], color=GREY, linewidth=0.7, zorder=2)
        for place, module, value, mrc in zip(places, modules, rows[column], rows["mrc"], strict=True):
            # Of two scopes that have chosen it the second is seen at its rim.
            taken = [colour(scope, scopes) for scope in takers.get((seed, module), [])]
            face = taken[0] if taken else GREY
            axis.plot(
                value,
                place,
                BY_SEED[number % len(BY_SEED)],
                color=face,
                markerfacecolor="white" if mrc <= 0 and column == "shown" else face,
                markeredgecolor=taken[-1] if taken else GREY,
                markeredgewidth=1.0,
                markersize=size * 1.7 if taken else size,
                zorder=4 if taken else 3,
            )
    axis.set_yticks(np.arange(len(modules)), modules, fontsize=SMALL)
    axis.set_ylim(len(modules) - 0.4, -0.6)


def _entries(run: Results, takers: dict[tuple[int, str], list[Scope]], some_fell: bool) -> Iterator[tuple[Any, str]]:
    present = {scope for chosen in takers.values() for scope in chosen}
    for scope in run.grid.scopes:
        if scope in present:
            yield Patch(color=colour(scope, run.grid.scopes)), label(scope)
    yield Patch(color=GREY), "chosen by no scope"
    if len(run.grid.seeds) > 1:
        for number, seed in enumerate(run.grid.seeds):
            yield mark(BY_SEED[number % len(BY_SEED)], color=GREY, markersize=3.5), f"seed {seed}"
    if some_fell:
        yield mark("o", color=INK, markerfacecolor="white", markersize=3.5), "0 or below"


def _edge(low: "pd.Series[float]", values: "pd.Series[float]") -> float:
    """Where a logarithmic axis begins: below all lower ends, but not for the sake of what is next to nothing."""
    positive = values[values > 0]
    least = min(low.min(), 0.5 * values.min())
    if not len(positive):
        return 1e-5
    return float(least if least > 0 else max(0.5 * positive.min(), 1e-5 * positive.max()))


def _ticks(axis: Axes) -> None:
    """Write plain numbers at a logarithmic axis: at 1, 2 and 5 of each decade, if there are few decades."""
    low, high = axis.get_xlim()
    few = high / low < 300
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=12))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
