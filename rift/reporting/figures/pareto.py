"""Clean accuracy against robust accuracy of every variant, on test images."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rift import layout
from rift.artifacts import read_outcomes
from rift.config import Variant
from rift.errors import RiftError
from rift.layout import Cell, Run
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
from rift.reporting.outcomes import Metric
from rift.reporting.results import Results
from rift.reporting.texts import seeds_text
from rift.statistics import Delta, accuracy, paired_delta

ATTACKS: dict[Metric, str] = {"pgd": "under PGD", "autoattack": "under AutoAttack"}


@dataclass(frozen=True)
class Point:
    """Accuracies of a variant on test images, over the seeds that it shares with the reference.

    The reference is the first point of a panel.

    Attributes:
        variant: its name.
        standard: accuracy on clean images, in percent.
        robust: accuracy under attack, in percent.
        standard_delta: change of the first from the reference, in points.
        robust_delta: change of the second from the reference, in points.
        images: number of attacked images.
        method: method of its transfer, in a figure of several methods.
    """

    variant: Variant
    standard: float
    robust: float
    standard_delta: Delta
    robust_delta: Delta
    images: int
    method: str = ""


@dataclass(frozen=True)
class Tradeoff:
    """Data of the figure.

    Attributes:
        panels: the points by attack, the reference first.
        seeds: all seeds that are asked for.
        shades: colours of methods, that of the reference first; without any, every variant has its
            own colour.
    """

    panels: dict[Metric, list[Point]]
    seeds: tuple[int, ...]
    shades: dict[str, str] = field(default_factory=dict)

    @property
    def variants(self) -> list[Variant]:
        """Return all variants that are shown, in the order of the first panels."""
        points = (point for panel in self.panels.values() for point in panel)
        return list(dict.fromkeys(point.variant for point in points))


def collect(results: Results, cell: Cell) -> Tradeoff:
    """Read the accuracies of all variants that have been evaluated.

    Raises:
        RiftError: base and one variant at least were not evaluated under PGD, an artifact is
            damaged, or variants were evaluated on different images.
    """
    measured = {attack: _points(results, cell, attack) for attack in ATTACKS}
    panels = {attack: points for attack, points in measured.items() if len(points) > 1}
    if not panels:
        variants = results.grid.variants
        files = layout.figure_files("pareto", variants=variants)
        for seed, file in product(results.grid.seeds, files):
            read_outcomes(results.file(cell, seed, file))  # raises an error if it is missing
        run = results.folder / Run(cell, results.grid.seeds[0]).name
        raise RiftError(
            f"{run}: the figure needs PGD results of the base and of a variant; run rift evaluate"
        )
    return Tradeoff(panels, results.grid.seeds)


def draw(data: Tradeoff) -> Figure:
    """Draw clean accuracy against robust accuracy with the Pareto front, one panel per attack."""
    variants, several = data.variants, len(data.panels) > 1
    figure = sheet(DOUBLE if several else SINGLE, 2.5)
    axes: list[Axes] = list(figure.subplots(1, len(data.panels), squeeze=False)[0])
    for axis, (attack, points) in zip(axes, data.panels.items(), strict=True):
        for number, point in enumerate(points):
            shade = _shade(point, data)
            if number > 0:
                _draw_intervals(axis, point, shade)
            # Draw a larger hollow marker where two points coincide.
            place = (point.robust, point.standard)
            below = sum((other.robust, other.standard) == place for other in points[:number])
            axis.plot(
                *place,
                marker(point.variant, variants),
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
    figure.suptitle(f"test images, {seeds_text(data.seeds)}")
    legend(figure, _entries(data), 3 if several else 2)
    return figure


def front(points: list[Point]) -> list[Point]:
    """Return the Pareto front, from the most to the least robust point.

    No other point is at least as good as one of these in both accuracies and better in one.
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.robust, -point.standard)):
        if not best or point.standard > best[-1].standard:
            best.append(point)
    return best


def _points(results: Results, cell: Cell, attack: Metric) -> list[Point]:
    """Return the points of all variants that were evaluated; none without the base."""
    grid = results.grid
    names = [name for name in grid.variants if attack != "autoattack" or name in grid.autoattack]
    found = [point_of(results, cell, cell, variant, attack) for variant in names]
    points = [point for point in found if point is not None]
    return points if points and points[0].variant == "base" else []


def point_of(
    results: Results, reference: Cell, cell: Cell, variant: Variant, attack: Metric
) -> Point | None:
    """Return the point of a variant; None if no seed has it and the reference.

    Args:
        results: folder and seeds.
        reference: cell whose base is the reference.
        cell: cell of the variant.
        variant: the variant.
        attack: metric of robust accuracy.

    Raises:
        RiftError: an artifact is damaged, or both were evaluated on different images.
    """
    sides: list[tuple[Cell, Variant]] = [(reference, "base"), (cell, variant)]
    run = results
    for side, name in sides:
        run = run.with_files(side, *layout.figure_files("pareto", variants=(name,)))
    metrics: tuple[Metric, Metric] = ("std", attack)
    parts = [run.outcomes(side, name, metric) for metric in metrics for side, name in sides]
    known = [part for part in parts if part is not None]
    shared = [seed for seed in run.grid.seeds if all(seed in part.scores for part in known)]
    if len(known) < len(parts) or not shared:
        return None
    before, after, before_attacked, after_attacked = (part.only(shared) for part in known)
    standard, robust = before.paired(after), before_attacked.paired(after_attacked)
    attacked = accuracy(robust[1])
    return Point(
        variant,
        accuracy(standard[1]).mean,
        attacked.mean,
        paired_delta(*standard),
        paired_delta(*robust),
        attacked.images,
    )


def _shade(point: Point, data: Tradeoff) -> str:
    return data.shades[point.method] if point.method else colour(point.variant, data.variants)


def _label(point: Point) -> str:
    if not point.method:
        return label(point.variant)
    return point.method if point.variant == "base" else f"{point.method} + {label(point.variant)}"


def _entries(data: Tradeoff) -> Iterator[tuple[Any, str]]:
    """Yield the entries of the legend."""
    shown: dict[str, Point] = {}
    for panel in data.panels.values():
        for point in panel:
            shown.setdefault(_label(point), point)
    for text, point in shown.items():
        kind = marker(point.variant, data.variants)
        yield mark(kind, color=_shade(point, data), markersize=5), text
    yield Line2D([], [], color=GREY, linestyle="--", linewidth=0.9), "Pareto front"
    method = next(iter(data.shades), "")
    change = f"difference from {method}" if method else "change"
    yield mark("+", color=INK, markersize=8), f"95% interval of the {change}"


def _draw_intervals(axis: Axes, point: Point, shade: str) -> None:
    """Draw the intervals of both changes from the base around a point."""
    look: dict[str, Any] = {"color": shade, "linewidth": 0.8, "alpha": 0.7, "zorder": 3}
    across, up = (
        [value + bound - delta.mean for bound in (delta.low, delta.high)]
        for value, delta in (
            (point.robust, point.robust_delta),
            (point.standard, point.standard_delta),
        )
    )
    axis.plot(across, [point.standard] * 2, **look)
    axis.plot([point.robust] * 2, up, **look)


def _widen(axis: Axes) -> None:
    """Show at least one point of accuracy on both axes: smaller differences are not important."""
    for (low, high), set_limits in (
        (axis.dataLim.intervalx, axis.set_xlim),
        (axis.dataLim.intervaly, axis.set_ylim),
    ):
        room = max(0.1 * (high - low), (1 - (high - low)) / 2)
        set_limits(low - room, high + room)


def _draw_front(axis: Axes, best: list[Point]) -> None:
    """Draw the stairs that separate the front from all other points."""
    (left, _), (bottom, _) = axis.get_xlim(), axis.get_ylim()
    corners = [(best[0].robust, bottom)]
    for point, following in zip(best, [*best[1:], None], strict=True):
        end = following.robust if following else left
        corners += [(point.robust, point.standard), (end, point.standard)]
    axis.plot(*zip(*corners, strict=True), color=GREY, linewidth=0.9, linestyle="--", zorder=1)
