"""One test image after every corruption."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
from matplotlib.figure import Figure

from rift import layout
from rift.artifacts import Array
from rift.config import CorruptionName
from rift.data import load
from rift.data.corruptions import files
from rift.errors import RiftError
from rift.layout import Cell
from rift.reporting.figures.style import DOUBLE, SMALL, sheet
from rift.reporting.results import Results


@dataclass(frozen=True)
class ContactSheet:
    """Data of the figure.

    Attributes:
        clean: an image, H×W×C, uint8.
        corrupted: the image at severities 1 to 5, S×H×W×C, by corruption.
    """

    clean: Array
    corrupted: dict[CorruptionName, Array]


def collect(results: Results, cell: Cell) -> ContactSheet:
    """Read the first test image and its corrupted versions.

    Raises:
        RiftError: there are no corrupted images, or a file is missing or damaged.
    """
    paths: dict[CorruptionName, str] = {
        name: layout.corrupted(cell.target, name) for name in get_args(CorruptionName)
    }
    existing = {
        name: results.folder / path
        for name, path in paths.items()
        if (results.folder / path).exists()
    }
    if not existing:
        folder = (results.folder / next(iter(paths.values()))).parent
        raise RiftError(f"{folder}: contains no corrupted images; run rift corrupt first")

    prepared = load(results.folder / layout.prepared(cell.target), ("test",))
    labels = prepared.labels["test"]
    splits = {name: files.load(path, labels) for name, path in existing.items()}
    return ContactSheet(
        np.moveaxis(prepared.images["test"][0], 0, -1),
        {name: split.images[:, 0] for name, split in splits.items()},
    )


def draw(data: ContactSheet) -> Figure:
    """Draw the image without corruption and at all severities, one row per corruption."""
    half = -(-len(data.corrupted) // 2)
    figure = sheet(DOUBLE, 0.4 + 0.5 * half)
    widths = [1] * 6 + [1.7] + [1] * 6
    grid = figure.add_gridspec(half, 13, width_ratios=widths, wspace=0.02, hspace=0.02)
    for number, (name, severities) in enumerate(data.corrupted.items()):
        row, offset = number % half, 7 * (number // half)
        for severity, image in enumerate([data.clean, *severities]):
            axis = figure.add_subplot(grid[row, offset + severity])
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row == 0:
                axis.set_title(str(severity) if severity else "clean", fontsize=SMALL)
            if severity == 0:
                text = name.replace("_", "\n")
                axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=SMALL)
    figure.suptitle("severities 1 (mildest) to 5")
    return figure
