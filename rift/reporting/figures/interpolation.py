"""The sweep from the base to fine-tuned weights, as in the paper's first figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rift import layout
from rift.config import Scope
from rift.layout import Cell
from rift.reporting.figures.seeds import band, band_entry, draw_band
from rift.reporting.figures.style import (
    DOUBLE,
    GREY,
    INK,
    PALE,
    colour,
    label,
    legend,
    mark,
    marker,
    sheet,
)
from rift.reporting.results import Results
from rift.reporting.texts import seeds_text

STANDARD, ADVERSARIAL = "standard_change", "adversarial_change"
STAR: dict[str, Any] = {"markersize": 8.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
# These scopes have a table of their own.
OMITTED = ("top2", "top3", "top5")


@dataclass(frozen=True)
class ScopeSweep:
    """The sweep of one scope.

    Attributes:
        scope: its name.
        changes: changes of both accuracies from the base in points; one row per seed and α.
        choices: the selected point, by seed.
    """

    scope: Scope
    changes: pd.DataFrame
    choices: dict[int, dict[str, Any]]

    @property
    def means(self) -> pd.DataFrame:
        """Return the mean changes over seeds, by α."""
        return self.changes.groupby("alpha")[[STANDARD, ADVERSARIAL]].mean()

    @property
    def chosen(self) -> pd.DataFrame:
        """Return the rows of the selected points, one per seed."""
        selected = self.changes["seed"].map({s: row["alpha"] for s, row in self.choices.items()})
        return self.changes[self.changes["alpha"] == selected]

    @property
    def chosen_interval(self) -> "tuple[pd.Series[float], pd.Series[float]]":
        """Return the ends of the interval of the mean selected point, by accuracy.

        One seed has no interval: both ends are its point.
        """
        return band(self.chosen[[ADVERSARIAL, STANDARD]].T)


@dataclass(frozen=True)
class Sweeps:
    """Data of the figure.

    Attributes:
        sweeps: the sweeps, at least one.
        scopes: all scopes that are asked for, in the order of their colours.
        seeds: all seeds that are asked for.
    """

    sweeps: list[ScopeSweep]
    scopes: tuple[Scope, ...]
    seeds: tuple[int, ...]

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Return the selected points of all scopes and seeds."""
        return [choice for sweep in self.sweeps for choice in sweep.choices.values()]

    @property
    def tolerance(self) -> float:
        """Return the loss of robust accuracy that is allowed, in points."""
        return float(max(choice["tolerance"] for choice in self.choices))


def collect(results: Results, cell: Cell) -> Sweeps:
    """Read the sweeps of all scopes that have one, except for the k least critical modules.

    Raises:
        RiftError: there is no sweep, or an artifact is damaged.
    """
    asked = results.grid.scopes
    scopes = tuple(scope for scope in asked if scope not in OMITTED) or asked
    found = [_sweep(results, cell, scope) for scope in scopes]
    sweeps = [sweep for sweep in found if sweep is not None]
    if not sweeps:
        results.sweep(cell, scopes[0])  # raises an error that names the missing file
    return Sweeps(sweeps, scopes, results.grid.seeds)


def can_be_drawn(results: Results, cell: Cell) -> bool:
    """Return whether any scope has a sweep."""
    return any(_sweep(results, cell, scope) is not None for scope in results.grid.scopes)


def draw(data: Sweeps) -> Figure:
    """Draw clean accuracy against accuracy under PGD, and both against α.

    Everything is a change from the base. Every scope is the line of its means over seeds, and a
    star at each α that a seed selected. On the right, a band shows the 95% interval of the means.
    On the left, the star is the mean of the selected points, and a cross shows its interval. One
    seed has no interval, and two have their range (``docs/statistics.md``).
    """
    figure = sheet(DOUBLE, 2.85)
    places = figure.add_gridspec(2, 2, width_ratios=(1, 1))
    plane = figure.add_subplot(places[:, 0])
    above = figure.add_subplot(places[0, 1])
    below = figure.add_subplot(places[1, 1], sharex=above)
    for number, sweep in enumerate(data.sweeps):
        _draw_means(plane, above, below, sweep, data.scopes)
        _draw_choices(plane, above, below, number, data)
    _zoom(plane, data)
    _shade_forbidden(plane, below, -data.tolerance)
    plane.plot(0, 0, "o", color=INK, markersize=6, zorder=4)

    splits = {choice["selection"]: choice["images"] for choice in data.choices}
    images = " and ".join(
        f"{count:,} images of the {split} split" for split, count in splits.items()
    )
    figure.suptitle(f"{seeds_text(data.seeds)}; {images}")
    plane.set(
        xlabel="change of accuracy under PGD (points)", ylabel="change of clean accuracy (points)"
    )
    above.set_ylabel("clean (points)")
    below.set(xlabel="α, from base (0) to fine-tuned weights (1)", ylabel="PGD (points)")
    above.tick_params(labelbottom=False)
    figure.align_ylabels([above, below])
    legend(figure, _entries(data), 3)
    return figure


def _draw_means(
    plane: Axes, above: Axes, below: Axes, sweep: ScopeSweep, scopes: Sequence[Scope]
) -> None:
    """Draw the mean over seeds, and a band where there are several."""
    shade = colour(sweep.scope, scopes)
    look: dict[str, Any] = {
        "color": shade,
        "marker": marker(sweep.scope, scopes),
        "markersize": 2.6,
        "zorder": 3,
    }
    means = sweep.means
    plane.plot(means[ADVERSARIAL], means[STANDARD], **look)
    for axis, column in ((above, STANDARD), (below, ADVERSARIAL)):
        axis.plot(means.index, means[column], **look)
        by_seed = sweep.changes.pivot_table(index="alpha", columns="seed", values=column)
        draw_band(axis, by_seed, shade)


def _draw_choices(plane: Axes, above: Axes, below: Axes, number: int, data: Sweeps) -> None:
    """Draw stars: the mean of the selected points in the plane, and their values of α."""
    sweep = data.sweeps[number]
    shade = colour(sweep.scope, data.scopes)
    # The first scope is drawn above the others.
    height = 6 - number / 100
    look = {"color": shade, "zorder": height, **STAR}
    chosen = sweep.chosen
    x, y = chosen[[ADVERSARIAL, STANDARD]].mean()
    plane.plot(x, y, "*", **look)
    if len(chosen) > 1:
        low, high = sweep.chosen_interval
        thin: dict[str, Any] = {"color": shade, "linewidth": 0.8, "zorder": height - 0.5}
        plane.plot([low[ADVERSARIAL], high[ADVERSARIAL]], [y, y], **thin)
        plane.plot([x, x], [low[STANDARD], high[STANDARD]], **thin)
    for alpha in sorted(set(chosen["alpha"])):
        for axis, column in ((above, STANDARD), (below, ADVERSARIAL)):
            at = alpha + _shift(sweep, data.sweeps, alpha)
            axis.plot(at, sweep.means.loc[alpha, column], "*", **look)


def _entries(data: Sweeps) -> Iterator[tuple[Any, str]]:
    """Yield the entries of the legend."""
    for sweep in data.sweeps:
        shade, kind = colour(sweep.scope, data.scopes), marker(sweep.scope, data.scopes)
        handle = Line2D([], [], color=shade, marker=kind, markersize=3.5)
        yield handle, label(sweep.scope) + _seed_count(sweep, data.seeds)

    several = len(data.seeds) > 1
    yield mark("o", markersize=5.5), "base (α = 0)"
    star = mark("*", color=GREY, markersize=7)
    yield star, "chosen α (left: mean over seeds)" if several else "chosen α"
    points = f"{data.tolerance:g} point{'s' * (data.tolerance != 1)}"
    forbidden = Patch(facecolor=PALE, edgecolor=GREY, linestyle=":")
    yield forbidden, f"loses more than {points}: not allowed"

    seeds = max(len(sweep.choices) for sweep in data.sweeps)
    if seeds > 1:
        yield band_entry(seeds)


def _sweep(results: Results, cell: Cell, scope: Scope) -> ScopeSweep | None:
    """Read the sweep of a scope over the seeds that have one; None if there are none."""
    swept = results.with_files(cell, *layout.figure_files("interpolation", scopes=(scope,)))
    if not swept.grid.seeds:
        return None
    table, choices = swept.sweep(cell, scope), swept.selections(cell, scope)
    return ScopeSweep(scope, table, dict(zip(swept.grid.seeds, choices, strict=True)))


def _shift(sweep: ScopeSweep, sweeps: list[ScopeSweep], alpha: float) -> float:
    """Return how far a star is moved, so that stars of several scopes at one α do not overlap."""
    same = [
        other.scope
        for other in sweeps
        if any(choice["alpha"] == alpha for choice in other.choices.values())
    ]
    return 0.022 * (same.index(sweep.scope) - (len(same) - 1) / 2)


def _zoom(plane: Axes, data: Sweeps) -> None:
    """Show the range of RiFT, or else of the first scope, and cut off curves that lose more.

    All selected points are shown, with their intervals.
    """
    shown = next((sweep for sweep in data.sweeps if sweep.scope == "rift"), data.sweeps[0]).means
    ends = pd.DataFrame([end for sweep in data.sweeps for end in sweep.chosen_interval])
    left = 1.1 * min(shown[ADVERSARIAL].min(), ends[ADVERSARIAL].min(), -3 * data.tolerance, -0.1)
    means = pd.concat([sweep.means for sweep in data.sweeps])
    visible = pd.concat([means[means[ADVERSARIAL] >= left], ends])
    right = max(visible[ADVERSARIAL].max(), 0.0)
    low, high = min(visible[STANDARD].min(), -0.1), max(visible[STANDARD].max(), 0.1)
    plane.set_xlim(left, right + 0.08 * (right - left))
    plane.set_ylim(low - 0.06 * (high - low), high + 0.08 * (high - low))


def _shade_forbidden(plane: Axes, below: Axes, floor: float) -> None:
    """Shade the points that lose too much robust accuracy."""
    left, bottom = plane.get_xlim()[0], min(below.get_ylim()[0], 2 * floor)
    plane.axvspan(left, floor, color=PALE, linewidth=0, zorder=0)
    plane.axvline(floor, color=GREY, linestyle=":", linewidth=0.9)
    plane.set_xlim(left=left)
    below.axhspan(bottom, floor, color=PALE, linewidth=0, zorder=0)
    below.axhline(floor, color=GREY, linestyle=":", linewidth=0.9)
    below.set_ylim(bottom=bottom)


def _seed_count(sweep: ScopeSweep, seeds: Sequence[int]) -> str:
    count = len(sweep.choices)
    return "" if count == len(seeds) else f" ({count} of {len(seeds)} seeds)"
