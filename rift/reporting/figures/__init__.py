"""Figures by name, each of one grid cell, a module each.

Add yours to ``FIGURES`` and its name to ``rift.config.FigureName``, and to ``DATASET_FIGURES`` there if it shows a data set
alone. It is made as wide as it is printed, ``style.SINGLE`` or ``style.DOUBLE``, and type on it is at least 6 points high.
"""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from rift.artifacts import write_bytes
from rift.config import DATASET_FIGURES, FigureName, Grid
from rift.errors import RiftError
from rift.reporting.figures import contact_sheet, corruptions, criticality, interpolation, pareto, training
from rift.reporting.figures.style import GREY, SINGLE, STYLE
from rift.reporting.results import Cell, Results, cells

FIGURES: dict[FigureName, Callable[[Results, Cell], Figure]] = {
    "interpolation": interpolation.draw,
    "criticality": criticality.draw,
    "corruptions": corruptions.draw,
    "pareto": pareto.draw,
    "training": training.draw,
    "contact-sheet": contact_sheet.draw,
}
RESOLUTION = 220  # dots an inch of PNG


def draw(name: FigureName, folder: Path, grid: Grid) -> Figure:
    """Draw a figure in the one style that all share.

    Raises:
        RiftError: the grid has more than one cell, or an artifact is missing or damaged.
    """
    cell, *others = cells(grid)
    shown = Cell._fields[:1] if name in DATASET_FIGURES else Cell._fields
    if any(getattr(other, field) != getattr(cell, field) for other in others for field in shown):
        raise RiftError(f"--grid: figure {name} shows one {', '.join(shown)}; name one of each")
    with mpl.rc_context(STYLE):
        figure = FIGURES[name](Results(folder, grid), cell)
        # What a figure says of itself stands behind what it is of.
        title = ", ".join(getattr(cell, field) for field in shown)
        said = f"{title}{';' if figure.get_figwidth() > SINGLE else chr(10)} {figure.get_suptitle()}".strip(" ;\n")
        figure.suptitle(said.replace("\n ", "\n"), x=0.01, ha="left", fontsize=7.5, color=GREY)
        # Ticks, texts and layout settle while the style holds.
        figure.draw_without_rendering()
    return figure


def render(figure: Figure, suffix: str) -> bytes:
    """Render a figure as ``.png`` or ``.pdf``; equal figures give equal bytes."""
    content = io.BytesIO()
    with mpl.rc_context(STYLE):
        # Without the date.
        metadata = {"CreationDate": None} if suffix == ".pdf" else {}
        figure.savefig(content, format=suffix[1:], dpi=RESOLUTION, metadata=metadata)
    return content.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or PDF.

    Raises:
        RiftError: the ending stands for neither, or the file cannot be written.
    """
    if path.suffix not in (".png", ".pdf"):
        raise RiftError(f"{path}: figures are written as .png or .pdf, not {path.suffix or 'without an ending'}")
    write_bytes(path, render(figure, path.suffix))
