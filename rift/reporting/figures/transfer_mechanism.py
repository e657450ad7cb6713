"""Weight norm, gradient norm and effective learning rate of TWINS and of its baseline."""

from dataclasses import replace

import numpy as np
import pandas as pd
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
from rift.reporting.figures.style import DOUBLE, legend, sheet
from rift.reporting.results import Results

MEASURED = ("weight_norm", "gradient_norm", "effective_learning_rate")
# Label and scale of every panel, by column.
PANELS = {
    "relative_norm": ("weight norm ‖w‖\n(1: {baseline}, epoch {first})", "linear"),
    "gradient_norm": ("gradient norm ‖∇w‖", "linear"),
    "effective_learning_rate": ("effective learning\nrate η / ‖w‖²", "log"),
    "relative_step": ("relative step\nη ‖∇w‖ / ‖w‖", "log"),
}


def collect(results: Results, cell: Cell) -> MethodHistories:
    """Read the histories of a transfer by TWINS and of its baseline.

    Raises:
        RiftError: the cell is no transfer by TWINS, no seed has both histories, a history has no
            norms, or an artifact is damaged.
    """
    return collect_histories(results, cell, "transfer-mechanism", *MEASURED)


def draw(data: MethodHistories) -> Figure:
    """Draw the norms of both methods after every epoch, and two sizes of a step.

    w, its gradient and the effective learning rate are those of
    ``rift.training.history.TransferEpoch``. The weight norm is divided by the baseline's after the
    first epoch under the same seed, because bases differ more from seed to seed than methods do.
    The relative step is the learning rate times the gradient norm over the weight norm: the length
    of a step compared with that of w, without weight decay and momentum. The title of a panel is
    the geometric mean of the ratio of both methods over epochs and seeds.
    """
    data = _with_ratios(data)
    baseline, twins = data.histories
    first = data.histories[baseline]["epoch"].min()
    figure = sheet(DOUBLE, 3.5)
    panels = figure.subplots(2, 2, sharex=True)
    for axis, (column, (text, scale)) in zip(panels.ravel(), PANELS.items(), strict=True):
        axis.set_yscale(scale)
        draw_means(axis, data, column)
        # The lines of both methods can coincide.
        axis.lines[0].set_linewidth(2.4)
        axis.set_ylabel(text.format(baseline=baseline, first=first))
        if scale == "linear":
            axis.ticklabel_format(useOffset=False)
        ratios = (data.by_seed(twins, column) / data.by_seed(baseline, column)).to_numpy()
        mean = np.exp(np.nanmean(np.log(ratios)))
        axis.set_title(f"mean ratio {twins} / {baseline}: {mean:.2f}")
    mark_epochs(panels.ravel(), data)
    for axis in panels[-1]:
        axis.set_xlabel("epoch of the transfer")
    figure.suptitle(f"{data.title}; w: weights before batch norm")
    lines = [
        (Line2D([], [], color=shade, linewidth=width), method)
        for (method, shade), width in zip(data.shades.items(), (2.4, 1.1), strict=True)
    ]
    legend(figure, [*lines, *entries(data)], 4)
    return figure


def _with_ratios(data: MethodHistories) -> MethodHistories:
    """Return the data with the relative weight norm and the relative step."""
    start = data.by_seed(next(iter(data.histories)), "weight_norm").iloc[0]

    def completed(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(
            relative_norm=rows["weight_norm"] / rows["seed"].map(start),
            relative_step=rows["learning_rate"] * rows["gradient_norm"] / rows["weight_norm"],
        )

    return replace(
        data, histories={method: completed(rows) for method, rows in data.histories.items()}
    )
