"""Made-up results of figures, and the contents of a drawn figure."""

from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from rift.config import TRANSFER_FIGURES, CorruptionName, Grid, Scope
from rift.layout import Cell
from rift.reporting.figures.style import COLOURS
from tests.results import a_grid

SCOPES: tuple[Scope, ...] = (
    "rift",
    "robust-critical",
    "all-layers",
    "last-layer",
    "top2",
    "top3",
    "top5",
    "module-layer1.0.conv2",
)
CORRUPTIONS: tuple[CorruptionName, ...] = (
    "gaussian_noise",
    "elastic_transform",
    "jpeg_compression",
)
SEEDS = (0, 1, 2)
RESNET18 = Cell("digits", "resnet18", "pgd")
AT, TWINS_AT = (Cell("letters-to-digits", "resnet18", method) for method in ("at", "twins-at"))
# The number of the module whose MRC is zero.
FLAT = 3


TRANSFER_SCOPES: tuple[Scope, ...] = ("rift", "last-layer")


def modules(count: int) -> list[str]:
    return [f"layer{1 + n // 8}.{n // 2 % 4}.conv{1 + n % 2}" for n in range(count)]


def grid(seeds: tuple[int, ...] = SEEDS, architecture: str = "resnet18", **others: Any) -> Grid:
    return a_grid(architectures=(architecture,), seeds=seeds, **{"scopes": SCOPES, **others})


def grid_for(
    name: str, seeds: tuple[int, ...] = SEEDS, architecture: str = "resnet18", **others: Any
) -> Grid:
    """Return the grid of the one cell that a figure shows."""
    if name in TRANSFER_FIGURES:
        transfer, _, method = TWINS_AT
        others |= {"datasets": (), "transfers": (transfer,), "methods": (method,)}
        others.setdefault("scopes", TRANSFER_SCOPES)
    return grid(seeds, architecture, **others)


def texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Return all visible texts of a figure and their places in inches."""
    shown = {text for text in figure.findobj(Text) if isinstance(text, Text)}
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                # Ticks beyond the ends of an axis exist, but are not drawn.
                inside = low <= tick.get_loc() <= high
                shown -= {tick.label2} if inside else {tick.label1, tick.label2}
    shown = {
        text
        for text in shown
        if text.get_visible() and (text.axes is None or text.axes.get_visible())
    }
    return [
        (text, Bbox(text.get_window_extent().get_points() / figure.dpi))
        for text in shown
        if text.get_text().strip()
    ]


def hex_of(colour: Any) -> str:
    return to_hex(to_rgba_array(colour)[0]).upper()


def drawn_as(figure: Figure, panel: int, name: str) -> list[Line2D]:
    """Return lines and points of a panel that have the colour of a scope."""
    lines = figure.axes[panel].lines
    return [line for line in lines if hex_of(line.get_color()) == COLOURS[name]]


def points(line: Line2D) -> Any:
    return np.column_stack([np.asarray(values, dtype=float) for values in line.get_data()])


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]
