"""Draws a figure by its name, in the style that all figures share."""

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from rift.artifacts import write_bytes
from rift.config import DATASET_FIGURES, FigureName, Grid
from rift.errors import RiftError
from rift.layout import Cell
from rift.reporting.figures import FIGURES
from rift.reporting.figures.style import GREY, SINGLE, STYLE
from rift.reporting.results import Results, cells

RESOLUTION = 220  # dots per inch of PNG


def draw(name: FigureName, folder: Path, grid: Grid) -> Figure:
    """Draw a figure from the artifacts of an experiment.

    Args:
        name: name of the figure.
        folder: folder of the experiment.
        grid: the cell, the seeds and the variants to show.

    Raises:
        RiftError: the grid has more than one cell, or an artifact is missing or damaged.
    """
    cell, *others = cells(grid)
    parts = Cell._fields[:1] if name in DATASET_FIGURES else Cell._fields
    if any(getattr(other, part) != getattr(cell, part) for other in others for part in parts):
        raise RiftError(
            f"--grid: figure {name} shows one {', '.join(parts)}; give one value of each"
        )
    data = FIGURES[name].collect(Results(folder, grid), cell)
    return draw_data(name, data, ", ".join(getattr(cell, part) for part in parts))


def draw_data(name: FigureName, data: Any, title: str = "") -> Figure:
    """Draw a figure from its data.

    Args:
        name: name of the figure.
        data: the result of its ``collect``, or an object of the same type.
        title: names the shown networks; the figure's own title follows it.
    """
    with mpl.rc_context(STYLE):
        figure = FIGURES[name].draw(data)
        separator = "; " if figure.get_figwidth() > SINGLE else "\n"
        titles = [text for text in (title, figure.get_suptitle()) if text]
        look: dict[str, Any] = {"x": 0.01, "ha": "left", "fontsize": 7.5, "color": GREY}
        figure.suptitle(separator.join(titles), **look)
        # Ticks, texts and layout are computed while the style applies.
        figure.draw_without_rendering()
    return figure


def render(figure: Figure, suffix: str) -> bytes:
    """Render a figure as ``.png`` or ``.pdf``. Equal figures give equal bytes."""
    content = io.BytesIO()
    # A PDF contains its date of creation by default, so equal figures would differ.
    metadata = {"CreationDate": None} if suffix == ".pdf" else {}
    with mpl.rc_context(STYLE):
        figure.savefig(content, format=suffix[1:], dpi=RESOLUTION, metadata=metadata)
    return content.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or PDF.

    Raises:
        RiftError: the file has another ending, or cannot be written.
    """
    if path.suffix not in (".png", ".pdf"):
        ending = path.suffix or "a file without an ending"
        raise RiftError(f"{path}: figures are written as .png or .pdf, not {ending}")
    write_bytes(path, render(figure, path.suffix))
