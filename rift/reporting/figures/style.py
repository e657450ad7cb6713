"""The style of all figures: widths, fonts, colours, markers and legends.

Figures have the width at which they are printed: sizes of type here are sizes on paper.
"""

import io
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rift.config import Scope, Variant

SINGLE, DOUBLE = 3.3, 6.8  # inches: one column of a page, and two
ON_SCREEN = 150  # dots per inch in a notebook

INK, GREY, PALE = "#222222", "#757575", "#e6e6e6"
# Okabe and Ito's colours, which colour-blind readers can distinguish.
# A scope has the same colour and marker in all figures.
COLOURS: dict[Variant, str] = {
    "base": INK,
    "rift": "#0072B2",
    "robust-critical": "#D55E00",
    "all-layers": "#009E73",
    "last-layer": "#CC79A7",
    "top2": "#56B4E9",
    "top3": "#E69F00",
    "top5": "#999999",
    "rift-frozen": "#004C76",
    "norms": "#8C6D31",
    "statistics": "#7B3294",
    "statistics-attacked": "#C2A5CF",
    "more-training": "#B2182B",
    "mixed-training": "#117733",
    "earn-then-spend": "#F4A582",
    "rift-then-spend": "#1B9E77",
}
# A mark by matplotlib: its letter; or corners, 1 for a star, and degrees of rotation.
Mark = str | tuple[int, Literal[0, 1, 2], int]
MARKERS: dict[Variant, Mark] = {
    "base": "o",
    "rift": "D",
    "robust-critical": "s",
    "all-layers": "^",
    "last-layer": "v",
    "top2": "<",
    "top3": ">",
    "top5": "h",
    "rift-frozen": "d",
    "norms": "P",
    "statistics": "p",
    "statistics-attacked": "8",
    "more-training": "X",
    "mixed-training": (4, 1, 0),
    "earn-then-spend": (3, 1, 0),  # "*" marks the selected α
    "rift-then-spend": "H",
}
LABELS: dict[Variant, str] = {
    "base": "base",
    "rift": "least critical module (RiFT)",
    "robust-critical": "most critical module",
    "all-layers": "all layers",
    "last-layer": "last layer",
    "top2": "2 least critical",
    "top3": "3 least critical",
    "top5": "5 least critical",
    "rift-frozen": "RiFT, frozen statistics",
    "norms": "norms and biases",
    "statistics": "statistics of clean images",
    "statistics-attacked": "statistics of attacked images",
    "more-training": "more training of the base",
    "mixed-training": "clean and attacked images",
    "earn-then-spend": "more training, then all layers",
    "rift-then-spend": "RiFT, then all layers",
}
# For scopes of single modules, in the order of the grid.
OTHER_COLOURS, OTHER_MARKERS = (
    ("#332288", "#882255", "#999933", "#44AA99", "#661100", "#AA4499"),
    "Pp*Xd8",
)
# Colours of a transfer without and with the frozen wing, which no scope has.
BASELINE, TWINS = "#4D4D4D", "#AA3377"

SMALL = 6.5
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelpad": 2.5,
    "grid.color": PALE,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "legend.labelspacing": 0.35,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "pdf.fonttype": 42,
}


class _Sheet(Figure):
    """A figure that a notebook shows as a picture, whether or not it uses pyplot."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.savefig(content, format="png", dpi=ON_SCREEN)
        return content.getvalue()


def sheet(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches. Its contents are laid out automatically."""
    return _Sheet(figsize=(width, height), layout="constrained")


def label(variant: Variant) -> str:
    """Return the label of a variant."""
    return LABELS.get(variant, variant.removeprefix("module-"))


def colour(scope: Scope, scopes: Sequence[Variant]) -> str:
    """Return the colour of a scope among those of a grid."""
    return COLOURS.get(scope) or OTHER_COLOURS[_place(scope, scopes) % len(OTHER_COLOURS)]


def marker(scope: Scope, scopes: Sequence[Variant]) -> Mark:
    """Return the marker of a scope among those of a grid."""
    return MARKERS.get(scope) or OTHER_MARKERS[_place(scope, scopes) % len(OTHER_MARKERS)]


def _place(scope: Scope, scopes: Sequence[Variant]) -> int:
    return [other for other in scopes if other not in COLOURS].index(scope)


def mark(kind: Mark, **look: Any) -> Line2D:
    """Return a marker for a legend."""
    return Line2D([], [], marker=kind, linestyle="none", **{"color": INK, **look})


def legend(figure: Figure, entries: Iterable[tuple[Any, str]], columns: int) -> None:
    """Put a legend below everything, and make the figure higher by the height of the legend.

    Args:
        figure: the figure.
        entries: handles and texts.
        columns: number of columns, if they fit; otherwise there are fewer.
    """
    handles, texts = zip(*entries, strict=True)
    for number in range(columns, 0, -1):
        drawn = figure.legend(handles, texts, loc="outside lower center", ncols=number)
        width = drawn.get_window_extent().width / figure.dpi
        if width <= figure.get_figwidth() or number == 1:
            figure.set_figheight(figure.get_figheight() + 0.13 * -(-len(texts) // number))
            return
        drawn.remove()
