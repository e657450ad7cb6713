"""What corruptions do to an image."""

from typing import get_args

import numpy as np
from matplotlib.figure import Figure

from rift.config import CorruptionName
from rift.data import corrupted, load
from rift.errors import RiftError
from rift.reporting.figures.style import DOUBLE, SMALL, sheet
from rift.reporting.results import Cell, Results


def draw(results: Results, cell: Cell) -> Figure:
    """One test image after every corruption at every severity, beside the image itself."""
    folder = results.folder / "data" / cell.dataset
    known = [name for name in get_args(CorruptionName) if (folder / "corrupted" / f"{name}.npy").exists()]
    if not known:
        raise RiftError(f"{folder / 'corrupted'}: holds no corrupted images; run rift corrupt first")
    prepared = load(folder / "prepared.safetensors", ("test",))
    clean = np.moveaxis(prepared.images["test"][0], 0, -1)
    half = -(-len(known) // 2)
    figure = sheet(DOUBLE, 0.4 + 0.5 * half)
    grid = figure.add_gridspec(half, 13, width_ratios=[1] * 6 + [1.7] + [1] * 6, wspace=0.02, hspace=0.02)
    for number, name in enumerate(known):
        split = corrupted.load(folder / "corrupted" / f"{name}.npy", prepared.labels["test"])
        row, offset = number % half, 7 * (number // half)
        for severity, image in enumerate([clean, *split.images[:, 0]]):
            axis = figure.add_subplot(grid[row, offset + severity])
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row == 0:
                axis.set_title(str(severity) if severity else "clean", fontsize=SMALL)
            if severity == 0:
                axis.set_ylabel(name.replace("_", "\n"), rotation=0, ha="right", va="center", fontsize=SMALL)
    figure.suptitle("severities 1 (mildest) to 5")
    return figure
