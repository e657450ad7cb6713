"""Accuracy before and after fine-tuning, by corruption."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rift import layout
from rift.artifacts import Array, read_outcomes
from rift.config import CorruptionName, Scope, Variant
from rift.layout import Cell
from rift.reporting.figures.style import DOUBLE, GREY, INK, colour, label, legend, mark, sheet
from rift.reporting.outcomes import ALL, MEAN, with_means
from rift.reporting.results import Results
from rift.reporting.texts import signed
from rift.statistics import paired_delta


@dataclass(frozen=True)
class CorruptionScores:
    """Data of the figure.

    Attributes:
        variant: the variant that is compared with the base.
        scopes: all scopes that are asked for, in the order of their colours.
        scores: scores of base and variant, seeds × images each, by corruption. The last entry is
            the mean of all corruptions.
    """

    variant: Variant
    scopes: tuple[Scope, ...]
    scores: dict[str, tuple[Array, Array]]


def collect(results: Results, cell: Cell) -> CorruptionScores:
    """Read the scores of the base and of RiFT, or of the first scope in a grid without RiFT.

    Raises:
        RiftError: one of them was not evaluated, an artifact is damaged, or they were evaluated on
            different images.
    """
    scopes = results.grid.scopes
    variant: Variant = "rift" if "rift" in scopes else scopes[0]
    both = [with_means(results.corrupted_outcomes(cell, name)) for name in ("base", variant)]
    for name, outcomes in zip(("base", variant), both, strict=True):
        if not outcomes:
            (file,) = layout.figure_files("corruptions", variants=(name,))
            # It raises an error that names the missing file.
            read_outcomes(results.file(cell, results.grid.seeds[0], file))

    base, other = both
    measured = {name for name, severity in base if severity == MEAN and (name, MEAN) in other}
    order = [name for name in get_args(CorruptionName) if name in measured]
    order += [*sorted(measured - {*order, ALL}), ALL]
    scores = {name: base[name, MEAN].paired(other[name, MEAN]) for name in order}
    return CorruptionScores(variant, scopes, scores)


def draw(data: CorruptionScores) -> Figure:
    """Draw both accuracies and their difference with its interval, one row per corruption."""
    names = list(data.scores)
    figure = sheet(DOUBLE, 0.75 + 0.145 * (len(names) + 1))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.15))
    shade = colour(data.variant, data.scopes)
    # There is a gap before the mean of all corruptions.
    places = [float(number) for number in range(len(names) - 1)] + [len(names) - 0.3]
    for name, place in zip(names, places, strict=True):
        _draw_accuracies(left, place, data.scores[name], shade)
        _draw_difference(right, place, data.scores[name], shade)
    right.axvline(0, color=INK, linewidth=0.7, zorder=1)
    for axis in (left, right):
        axis.axhline(len(names) - 1.15, color=GREY, linewidth=0.6)
        axis.set_ylim(places[-1] + 0.7, -0.7)

    labels = ["all corruptions" if name == ALL else name.replace("_", " ") for name in names]
    left.set_yticks(places, labels)
    right.tick_params(labelleft=False, left=False)
    left.set_xlabel("accuracy (%)")
    right.set_xlabel("change from base (points), with 95% interval")
    seeds, images = data.scores[ALL][0].shape
    over = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{over}, {images:,} test images, mean over severities")
    legend(figure, _entries(data.variant, shade), 4)
    return figure


def _draw_accuracies(axis: Axes, place: float, scores: tuple[Array, Array], shade: str) -> None:
    before, after = (100 * some.mean() for some in scores)
    axis.plot((before, after), (place, place), color=GREY, linewidth=0.8, zorder=2)
    axis.plot(before, place, "o", color=INK, markersize=3.8, zorder=3)
    axis.plot(after, place, "D", color=shade, markersize=3.4, zorder=4)


def _draw_difference(axis: Axes, place: float, scores: tuple[Array, Array], shade: str) -> None:
    """Draw a difference with its interval, and write it at the right edge of the row."""
    delta = paired_delta(*scores)
    axis.plot((delta.low, delta.high), (place, place), color=shade, linewidth=1.1, zorder=2)
    face = shade if delta.excludes_zero else "white"
    look: dict[str, Any] = {"color": shade, "markerfacecolor": face, "markersize": 3.8}
    axis.plot(delta.mean, place, "D", zorder=4, **look)
    axis.annotate(
        signed(delta.mean),
        (1.0, place),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
    )


def _entries(variant: Variant, shade: str) -> Iterator[tuple[Any, str]]:
    """Yield the entries of the legend."""
    look: dict[str, Any] = {"color": shade, "marker": "D", "markersize": 4}
    yield mark("o", markersize=4), "base"
    yield mark("D", color=shade, markersize=4), label(variant)
    yield Line2D([], [], **look), "change from base"
    yield Line2D([], [], markerfacecolor="white", **look), "its interval includes zero"
