"""From the base to fine-tuned weights, and the point chosen on the way: the paper's first figure, over seeds."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rift.config import Scope
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
from rift.reporting.results import Cell, Results
from rift.reporting.tables.table import seeds_of
from rift.statistics import over_seeds

STANDARD, ADVERSARIAL = "standard_accuracy", "adversarial_accuracy"
STAR: dict[str, Any] = {"markersize": 8.5, "markeredgecolor": "white", "markeredgewidth": 0.6}


@dataclass(frozen=True)
class Path:
    """What became of one scope.

    Attributes:
        scope: it.
        changes: a row a seed and α: changes of both accuracies from that seed's base, in points.
        choices: what was chosen, by seed.
    """

    scope: Scope
    changes: pd.DataFrame
    choices: dict[int, dict[str, Any]]


def draw(results: Results, cell: Cell) -> Figure:
    """Changes from the base on the selection split: Std against Adv, and each against α. A line a scope, a band over seeds.

    A scope whose sweep has not been run yet is left out, and so are the k least critical modules: these have a table.
    """
    scopes: list[Scope] = [scope for scope in results.grid.scopes if scope not in ("top2", "top3", "top5")]
    scopes = scopes or list(results.grid.scopes)
    paths = [path for path in (_path(results, cell, scope) for scope in scopes) if path is not None]
    if not paths:
        results.sweep(cell, scopes[0])  # says which file is missing
    choices = [choice for path in paths for choice in path.choices.values()]
    tolerance = max(choice["tolerance"] for choice in choices)

    figure = sheet(DOUBLE, 2.85)
    layout = figure.add_gridspec(2, 2, width_ratios=(1, 1))
    plane = figure.add_subplot(layout[:, 0])
    above = figure.add_subplot(layout[0, 1])
    below = figure.add_subplot(layout[1, 1], sharex=above)
    for number, path in enumerate(paths):
        shade, kind = colour(path.scope, scopes), marker(path.scope, scopes)
        means = path.changes.groupby("alpha")[[STANDARD, ADVERSARIAL]].mean()
        plane.plot(means[ADVERSARIAL], means[STANDARD], color=shade, marker=kind, markersize=2.6, zorder=3)
        for axis, column in ((above, STANDARD), (below, ADVERSARIAL)):
            axis.plot(means.index, means[column], color=shade, marker=kind, markersize=2.6, zorder=3)
            if len(path.choices) > 1:
                low, high = _band(path.changes.pivot_table(index="alpha", columns="seed", values=column))
                axis.fill_between(means.index, low, high, color=shade, alpha=0.16, linewidth=0)
        for seed, rows in path.changes.groupby("seed"):
            chosen = rows[rows["alpha"] == path.choices[int(str(seed))]["alpha"]].iloc[0]
            if len(path.choices) > 1:
                plane.plot(rows[ADVERSARIAL], rows[STANDARD], color=shade, linewidth=0.5, alpha=0.45, zorder=2)
            # The first scope above the others; stars at the same α stand side by side.
            look = {"color": shade, "zorder": 6 - number / 100, **STAR}
            plane.plot(chosen[ADVERSARIAL], chosen[STANDARD], "*", **look)
            for axis, column in ((above, STANDARD), (below, ADVERSARIAL)):
                axis.plot(chosen["alpha"] + _aside(path, paths, chosen["alpha"]), chosen[column], "*", **look)
    _look_close(plane, paths, tolerance)
    _forbid(plane, below, -tolerance)
    plane.plot(0, 0, "o", color=INK, markersize=6, zorder=4)

    splits = {choice["selection"]: choice["images"] for choice in choices}
    where = " and ".join(f"{images:,} images of the {split} split" for split, images in splits.items())
    figure.suptitle(f"{seeds_of(results.grid)}; {where}")
    plane.set(xlabel="change of accuracy under PGD (points)", ylabel="change of clean accuracy (points)")
    above.set_ylabel("clean (points)")
    below.set(xlabel="α, from base (0) to fine-tuned weights (1)", ylabel="PGD (points)")
    above.tick_params(labelbottom=False)
    figure.align_ylabels([above, below])

    entries: list[tuple[Any, str]] = [
        (
            Line2D([], [], color=colour(path.scope, scopes), marker=marker(path.scope, scopes), markersize=3.5),
            label(path.scope) + _how_many(path, results),
        )
        for path in paths
    ]
    entries += [
        (mark("o", markersize=5.5), "base (α = 0)"),
        (mark("*", color=GREY, markersize=7), "chosen α, a star a seed" if len(results.grid.seeds) > 1 else "chosen α"),
    ]
    entries.append(
        (
            Patch(facecolor=PALE, edgecolor=GREY, linestyle=":"),
            f"loses more than {tolerance:g} point{'s' * (tolerance != 1)}: not allowed",
        )
    )
    counts = {len(path.choices) for path in paths}
    if max(counts) > 1:
        said = "range of both seeds" if max(counts) == 2 else f"95% interval of the mean of {max(counts)} seeds"
        entries.append((Patch(facecolor=GREY, alpha=0.3, linewidth=0), said))
        entries.append((Line2D([], [], color=GREY, linewidth=0.5), "single seed"))
    legend(figure, entries, 3)
    return figure


def can_be_drawn(results: Results, cell: Cell) -> bool:
    """Say whether the sweep of any scope has been run."""
    return any(_path(results, cell, scope) is not None for scope in results.grid.scopes)


def _path(results: Results, cell: Cell, scope: Scope) -> Path | None:
    """Read what became of a scope with the seeds that it has been run with; None if there are none."""
    run = results.having(cell, f"{scope}/sweep.csv", f"{scope}/selection.json")
    if not run.grid.seeds:
        return None
    sweep, choices = run.sweep(cell, scope), run.selections(cell, scope)
    base = sweep[sweep["alpha"] == 0].set_index("seed")
    changes = sweep[["alpha", "seed"]].assign(
        **{column: sweep[column] - sweep["seed"].map(base[column]) for column in (STANDARD, ADVERSARIAL)}
    )
    return Path(scope, changes, dict(zip(run.grid.seeds, choices, strict=True)))


def _band(values: pd.DataFrame) -> "tuple[pd.Series[float], pd.Series[float]]":
    """How sure a mean over seeds is: Student's 95% interval; of two seeds, of which it would say nothing, their range.

    Args:
        values: a row a point, a column a seed.
    """
    if values.shape[1] == 2:
        return values.min(axis=1), values.max(axis=1)
    bounds = pd.DataFrame([over_seeds(row) for row in values.to_numpy()], index=values.index)
    return bounds["low"], bounds["high"]


def _aside(path: Path, paths: list[Path], alpha: float) -> float:
    """How far a star moves aside for those of other scopes that have chosen the same α."""
    same = [other.scope for other in paths if any(choice["alpha"] == alpha for choice in other.choices.values())]
    return 0.022 * (same.index(path.scope) - (len(same) - 1) / 2)


def _look_close(plane: Axes, paths: list[Path], tolerance: float) -> None:
    """Let the plane reach as far as the first scope does, RiFT as a rule: curves that lose much more leave it."""
    first = next((path for path in paths if path.scope == "rift"), paths[0]).changes
    left = 1.1 * min(first[ADVERSARIAL].min(), -3 * tolerance, -0.1)
    seen = pd.concat([path.changes[path.changes[ADVERSARIAL] >= left] for path in paths])
    right = max(seen[ADVERSARIAL].max(), 0.0)
    low, high = min(seen[STANDARD].min(), -0.1), max(seen[STANDARD].max(), 0.1)
    plane.set_xlim(left, right + 0.08 * (right - left))
    plane.set_ylim(low - 0.06 * (high - low), high + 0.08 * (high - low))


def _forbid(plane: Axes, below: Axes, floor: float) -> None:
    """Shade what loses too much robustness, as far as the axes reach."""
    left, bottom = plane.get_xlim()[0], min(below.get_ylim()[0], 2 * floor)
    plane.axvspan(left, floor, color=PALE, linewidth=0, zorder=0)
    plane.axvline(floor, color=GREY, linestyle=":", linewidth=0.9)
    plane.set_xlim(left=left)
    below.axhspan(bottom, floor, color=PALE, linewidth=0, zorder=0)
    below.axhline(floor, color=GREY, linestyle=":", linewidth=0.9)
    below.set_ylim(bottom=bottom)


def _how_many(path: Path, results: Results) -> str:
    run, asked = len(path.choices), len(results.grid.seeds)
    return "" if run == asked else f" ({run} of {asked} seeds)"
