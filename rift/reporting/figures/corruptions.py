"""What fine-tuning gave on each corruption."""

from typing import get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rift.artifacts import read_outcomes
from rift.config import CorruptionName, Variant
from rift.reporting.figures.style import DOUBLE, GREY, INK, colour, label, legend, mark, sheet
from rift.reporting.results import Cell, Results
from rift.reporting.tables.corruptions import ALL, MEAN, with_means
from rift.reporting.tables.table import signed
from rift.statistics import paired_delta


def draw(results: Results, cell: Cell) -> Figure:
    """Accuracy of base and RiFT on every corruption, and the difference with its interval; means over severities and seeds.

    In a grid without RiFT, of its first scope.
    """
    scopes = results.grid.scopes
    variant: Variant = "rift" if "rift" in scopes else scopes[0]
    both = [with_means(results.corrupted_outcomes(cell, name)) for name in ("base", variant)]
    for name, outcomes in zip(("base", variant), both, strict=True):
        if not outcomes:
            read_outcomes(
                results.run(cell, results.grid.seeds[0]) / "evaluation" / name / "ood.npz"
            )  # says what is missing
    measured = {name for name, severity in both[0] if severity == MEAN and (name, MEAN) in both[1]}
    order = [name for name in get_args(CorruptionName) if name in measured]
    order += sorted(measured - {*order, ALL})
    order.append(ALL)
    scores = {name: both[0][name, MEAN].paired(both[1][name, MEAN]) for name in order}
    deltas = {name: paired_delta(*scores[name]) for name in order}

    figure = sheet(DOUBLE, 0.75 + 0.145 * (len(order) + 1))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.15))
    shade = colour(variant, scopes)
    # The mean of all stands apart.
    places = [float(number) for number in range(len(order) - 1)] + [len(order) - 0.3]
    for name, place in zip(order, places, strict=True):
        values = [100 * some.mean() for some in scores[name]]
        left.plot(values, (place, place), color=GREY, linewidth=0.8, zorder=2)
        left.plot(values[0], place, "o", color=INK, markersize=3.8, zorder=3)
        left.plot(values[1], place, "D", color=shade, markersize=3.4, zorder=4)
        delta = deltas[name]
        right.plot((delta.low, delta.high), (place, place), color=shade, linewidth=1.1, zorder=2)
        face = shade if delta.leaves_out_zero else "white"
        right.plot(delta.mean, place, "D", color=shade, markerfacecolor=face, markersize=3.8, zorder=4)
        _write(right, place, signed(delta.mean))
    right.axvline(0, color=INK, linewidth=0.7, zorder=1)
    for axis in (left, right):
        axis.axhline(len(order) - 1.15, color=GREY, linewidth=0.6)
        axis.set_ylim(places[-1] + 0.7, -0.7)
    left.set_yticks(places, ["all corruptions" if name == ALL else name.replace("_", " ") for name in order])
    right.tick_params(labelleft=False, left=False)
    left.set_xlabel("accuracy (%)")
    right.set_xlabel("change from base (points), with 95% interval")
    seeds, images = scores[ALL][0].shape
    said = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{said}, {images:,} test images, mean over severities")
    entries = [
        (mark("o", markersize=4), "base"),
        (mark("D", color=shade, markersize=4), label(variant)),
        (Line2D([], [], color=shade, marker="D", markersize=4), "change from base"),
        (Line2D([], [], color=shade, marker="D", markersize=4, markerfacecolor="white"), "its interval holds zero"),
    ]
    legend(figure, entries, 4)
    return figure


def _write(axis: Axes, place: float, text: str) -> None:
    """Write a number at the right edge of a row."""
    axis.annotate(
        text,
        (1.0, place),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
    )
