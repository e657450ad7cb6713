"""What every variant pays in robustness for its accuracy, on test images."""

from dataclasses import dataclass
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rift.artifacts import read_outcomes
from rift.config import Variant
from rift.errors import RiftError
from rift.reporting.figures.style import (
    DOUBLE,
    GREY,
    INK,
    SINGLE,
    colour,
    label,
    legend,
    mark,
    marker,
    sheet,
)
from rift.reporting.results import Cell, Metric, Results
from rift.reporting.tables.table import seeds_of
from rift.statistics import Delta, accuracy, paired_delta

FILES = ("standard.npz", "adversarial.npz")
ATTACKS: dict[Metric, str] = {"pgd": "under PGD", "autoattack": "under AutoAttack"}


@dataclass(frozen=True)
class Point:
    """A variant on test images: accuracies in percent, their differences from the base in points, how many were attacked."""

    variant: Variant
    standard: float
    robust: float
    standard_delta: Delta
    robust_delta: Delta
    images: int


def draw(results: Results, cell: Cell) -> Figure:
    """Std against Adv of every variant that has been evaluated, a panel an attack, and the front that none of them passes."""
    panels = {attack: points for attack in ATTACKS if len(points := measured(results, cell, attack)) > 1}
    if not panels:
        for variant, seed, file in product(results.grid.variants, results.grid.seeds, FILES):
            read_outcomes(results.run(cell, seed) / "evaluation" / variant / file)  # says which one is missing
        raise RiftError(
            f"{results.run(cell, results.grid.seeds[0])}: the base and a variant under PGD are wanted; run rift evaluate"
        )
    shown = [
        variant
        for variant in results.grid.variants
        if any(point.variant == variant for points in panels.values() for point in points)
    ]
    figure = sheet(DOUBLE if len(panels) > 1 else SINGLE, 2.5)
    axes: list[Axes] = list(figure.subplots(1, len(panels), squeeze=False)[0])
    for axis, (attack, points) in zip(axes, panels.items(), strict=True):
        for number, point in enumerate(points):
            shade = colour(point.variant, shown)
            if point.variant != "base":
                _interval(axis, point, shade)
            # Around what lies at the same place already, so that neither hides the other.
            below = sum((other.robust, other.standard) == (point.robust, point.standard) for other in points[:number])
            axis.plot(
                point.robust,
                point.standard,
                marker(point.variant, shown),
                color=shade,
                markersize=5 + 4 * below,
                markerfacecolor="none" if below else shade,
                markeredgewidth=1.0,
                zorder=5 if point.variant == "rift" else 4,
            )
        axis.set_xlabel(f"accuracy {ATTACKS[attack]} (%), {points[0].images:,} images")
        _widen(axis)
        _draw_front(axis, front(points))
    axes[0].set_ylabel("accuracy on clean images (%)")
    figure.suptitle(f"test images, {seeds_of(results.grid)}")
    entries: list[tuple[Any, str]] = [
        (mark(marker(variant, shown), color=colour(variant, shown), markersize=5), label(variant)) for variant in shown
    ]
    entries.append((Line2D([], [], color=GREY, linestyle="--", linewidth=0.9), "Pareto front"))
    entries.append((mark("+", color=INK, markersize=8), "95% interval of its change"))
    legend(figure, entries, 3 if len(panels) > 1 else 2)
    return figure


def measured(results: Results, cell: Cell, attack: Metric) -> list[Point]:
    """Every variant that has been evaluated on clean images and under an attack, the base first; none without the base."""
    points: list[Point] = []
    grid = results.grid
    for variant in [name for name in grid.variants if attack != "autoattack" or name in grid.autoattack]:
        both = [f"evaluation/{name}/{file}" for name in ("base", variant) for file in FILES]
        run = results.having(cell, *both)
        if not run.grid.seeds:
            continue
        parts = [run.outcomes(cell, name, metric) for metric in ("std", attack) for name in ("base", variant)]
        known = [part for part in parts if part is not None]
        shared = [seed for seed in run.grid.seeds if all(seed in part.scores for part in known)]
        if len(known) < len(parts) or not shared:
            continue
        before, after, before_attacked, after_attacked = (part.of(shared) for part in known)
        standard, robust = before.paired(after), before_attacked.paired(after_attacked)
        deltas = paired_delta(*standard), paired_delta(*robust)
        attacked = accuracy(robust[1])
        points.append(Point(variant, accuracy(standard[1]).mean, attacked.mean, *deltas, attacked.images))
    return points if points and points[0].variant == "base" else []


def front(points: list[Point]) -> list[Point]:
    """Points that no other is at least as good as in both accuracies and better in one; from the most to the least robust."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.robust, -point.standard)):
        if not best or point.standard > best[-1].standard:
            best.append(point)
    return best


def _interval(axis: Axes, point: Point, shade: str) -> None:
    """Draw both intervals of the differences from the base around a point."""
    look: dict[str, Any] = {"color": shade, "linewidth": 0.8, "alpha": 0.7, "zorder": 3}
    across, up = (
        [value + bound - delta.mean for bound in (delta.low, delta.high)]
        for value, delta in ((point.robust, point.robust_delta), (point.standard, point.standard_delta))
    )
    axis.plot(across, [point.standard] * 2, **look)
    axis.plot([point.robust] * 2, up, **look)


def _widen(axis: Axes) -> None:
    """Show at least one point of accuracy on both axes, with some room around: less is no difference worth a look."""
    for (low, high), put in ((axis.dataLim.intervalx, axis.set_xlim), (axis.dataLim.intervaly, axis.set_ylim)):
        room = max(0.1 * (high - low), (1 - (high - low)) / 2)
        put(low - room, high + room)


def _draw_front(axis: Axes, best: list[Point]) -> None:
    """Draw the stairs below and left of which every point is passed by one of the front."""
    (left, _), (bottom, _) = axis.get_xlim(), axis.get_ylim()
    corners = [(best[0].robust, bottom)]
    for point, following in zip(best, [*best[1:], None], strict=True):
        corners += [(point.robust, point.standard), (following.robust if following else left, point.standard)]
    axis.plot(*zip(*corners, strict=True), color=GREY, linewidth=0.9, linestyle="--", zorder=1)
