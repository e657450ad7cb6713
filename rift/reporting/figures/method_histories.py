"""Training histories of TWINS and of its baseline, epoch by epoch: what two figures share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rift import layout
from rift.config import FigureName, baseline_of
from rift.errors import RiftError
from rift.layout import Cell
from rift.reporting.figures.seeds import band_entry, draw_band
from rift.reporting.figures.style import BASELINE, GREY, TWINS
from rift.reporting.figures.training import sudden_drops
from rift.reporting.results import Results
from rift.reporting.texts import seeds_text

DROP: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1}


@dataclass(frozen=True)
class MethodHistories:
    """Data of a figure of transfers.

    Attributes:
        histories: the histories of all seeds that both methods have, by method, the baseline first;
            one row per seed and epoch.
    """

    histories: dict[str, pd.DataFrame]

    @property
    def seeds(self) -> list[int]:
        """Return the seeds."""
        return sorted(set(next(iter(self.histories.values()))["seed"]))

    @property
    def title(self) -> str:
        """Return the title of a figure, after the name of the cell."""
        return f"compared with {next(iter(self.histories))}, {seeds_text(self.seeds)}"

    @property
    def shades(self) -> dict[str, str]:
        """Return the colour of each method."""
        return dict(zip(self.histories, (BASELINE, TWINS), strict=True))

    def by_seed(self, method: str, column: str) -> pd.DataFrame:
        """Return a column of a method: one row per epoch, one column per seed."""
        return self.histories[method].pivot_table(index="epoch", columns="seed", values=column)


def baseline_beside(cell: Cell, name: FigureName) -> Cell:
    """Return the cell of the baseline that a figure shows beside a transfer by TWINS.

    Raises:
        RiftError: the cell is no transfer by TWINS.
    """
    baseline = baseline_of(cell)
    if baseline is None:
        raise RiftError(
            f"--grid: figure {name} shows a transfer by TWINS beside its baseline; name a transfer"
            " with --grid.transfers, and twins-at or twins-trades alone with --grid.methods"
        )
    return baseline


def collect_histories(
    results: Results, cell: Cell, name: FigureName, *columns: str
) -> MethodHistories:
    """Read the histories of a transfer by TWINS and of its baseline.

    Args:
        results: folder and seeds.
        cell: cell of the transfer by TWINS.
        name: name of the figure, for messages.
        columns: columns that must exist in addition to those of every training.

    Raises:
        RiftError: the cell is no transfer by TWINS, no seed has both histories, or an artifact is
            damaged.
    """
    both = [baseline_beside(cell, name), cell]
    trained = results
    for each in both:
        trained = trained.with_files(each, *layout.figure_files(name))
    # Without any seed, reading all of them raises an error that names the missing file.
    chosen = trained if trained.grid.seeds else results
    return MethodHistories({each.regime: chosen.training(each, *columns) for each in both})


def draw_means(axis: Axes, data: MethodHistories, column: str, style: str = "-") -> None:
    """Draw a column of both methods: the mean over seeds, and a band if there are several."""
    for method, shade in data.shades.items():
        values = data.by_seed(method, column)
        axis.plot(values.index, values.mean(axis=1), style, color=shade)
        draw_band(axis, values, shade)


def mark_epochs(panels: Sequence[Axes], data: MethodHistories) -> None:
    """Mark sudden drops of the learning rate, and show whole epochs."""
    for axis in panels:
        for epoch in _drops(data):
            axis.axvline(epoch - 0.5, **DROP)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def entries(data: MethodHistories) -> Iterator[tuple[Any, str]]:
    """Yield the entries of the legend that both figures have."""
    if len(data.seeds) > 1:
        yield band_entry(len(data.seeds))
    if _drops(data):
        yield Line2D([], [], **DROP), "sudden drop of the learning rate"


def _drops(data: MethodHistories) -> list[int]:
    first = data.seeds[0]
    histories = (rows[rows["seed"] == first] for rows in data.histories.values())
    return sorted({epoch for rows in histories for epoch in sudden_drops(rows)})
