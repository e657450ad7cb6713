"""Robust overfitting of a transfer by TWINS and of its baseline, epoch by epoch."""

from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rift.layout import Cell
from rift.reporting.figures.method_histories import (
    MethodHistories,
    collect_histories,
    draw_means,
    entries,
    mark_epochs,
)
from rift.reporting.figures.style import DOUBLE, GREY, legend, mark, sheet
from rift.reporting.results import Results
from rift.reporting.texts import signed

KINDS = {"adversarial": "accuracy\nunder PGD (%)", "standard": "clean\naccuracy (%)"}


def collect(results: Results, cell: Cell) -> MethodHistories:
    """Read the histories of a transfer by TWINS and of its baseline.

    Raises:
        RiftError: the cell is no transfer by TWINS, no seed has both histories, or an artifact is
            damaged.
    """
    return collect_histories(results, cell, "transfer-training")


def draw(data: MethodHistories) -> Figure:
    """Draw accuracy of both methods on training images and on the selection split, and the gap.

    Above is accuracy under PGD, below accuracy on clean images. The gap is computed per seed.
    """
    data = _with_gaps(data)
    figure = sheet(DOUBLE, 3.4)
    panels = figure.subplots(2, 2, sharex=True, width_ratios=(3, 2), height_ratios=(5, 4))
    for (left, right), (kind, text) in zip(panels, KINDS.items(), strict=True):
        draw_means(left, data, f"{kind}_accuracy")
        draw_means(left, data, f"train_{kind}_accuracy", "--")
        draw_means(right, data, f"{kind}_gap")
        right.axhline(0, color=GREY, linewidth=0.6, zorder=1)
        left.set_ylabel(text)
        right.set_ylabel("gap (points)")
        ends = [
            f"{signed(data.by_seed(method, f'{kind}_gap').mean(axis=1).iloc[-1], 1)} ({method})"
            for method in data.histories
        ]
        right.set_title(f"gap at the end: {', '.join(ends)}")
    _mark_kept(panels[0, 0], data)
    mark_epochs(panels.ravel(), data)
    for axis in panels[-1]:
        axis.set_xlabel("epoch of the transfer")
    figure.suptitle(data.title)
    lines = [
        (line, f"{method}, {split}")
        for method, shade in data.shades.items()
        for line, split in (
            (Line2D([], [], color=shade), "selection split"),
            (Line2D([], [], color=shade, linestyle="--"), "training images"),
        )
    ]
    kept = (mark("^", color=GREY, markersize=5), "kept epoch of each seed")
    legend(figure, [*lines, kept, *entries(data)], 4)
    return figure


def _with_gaps(data: MethodHistories) -> MethodHistories:
    """Return the data with the gap between training images and selection split, in points."""
    gaps = {
        method: rows.assign(
            **{
                f"{kind}_gap": rows[f"train_{kind}_accuracy"] - rows[f"{kind}_accuracy"]
                for kind in KINDS
            }
        )
        for method, rows in data.histories.items()
    }
    return replace(data, histories=gaps)


def _mark_kept(axis: Axes, data: MethodHistories) -> None:
    """Mark the kept epoch of every seed at the bottom of a panel, in a line per method."""
    for number, (method, shade) in enumerate(data.shades.items()):
        rows = data.histories[method]
        epochs = rows["epoch"][rows["kept"]]
        axis.plot(
            epochs,
            [0.04 + 0.07 * number] * len(epochs),
            "^",
            color=shade,
            transform=axis.get_xaxis_transform(),
            alpha=0.8,
            markeredgewidth=0,
            markersize=5,
        )
    # Room for the marks below the curves.
    low, high = axis.get_ylim()
    axis.set_ylim(low - 0.15 * (high - low), high)
