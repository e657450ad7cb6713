"""The training of a base, epoch by epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rift import layout
from rift.errors import RiftError
from rift.layout import Cell
from rift.reporting.figures.style import COLOURS, DOUBLE, GREY, INK, SINGLE, legend, sheet
from rift.reporting.results import Results
from rift.reporting.texts import name_of

# Label, colour and line of every kind of accuracy, by the prefix of its columns in the history.
HISTORIES = {
    "train_": ("training images", GREY, "--"),
    "": ("selection split", COLOURS["robust-critical"], "-"),
    "averaged_": ("selection split, averaged weights", COLOURS["rift"], "-"),
}
GAP: dict[str, Any] = {"color": "#f6d9c5", "linewidth": 0}
ABREAST = 3


@dataclass(frozen=True)
class TrainingHistories:
    """Data of the figure.

    Attributes:
        histories: the training history of every seed. Each has one epoch that was kept.
    """

    histories: dict[int, pd.DataFrame]


def collect(results: Results, cell: Cell) -> TrainingHistories:
    """Read the training histories of all seeds that have one.

    Raises:
        RiftError: there is none, an artifact is damaged, or no epoch was kept.
    """
    trained = results.with_files(cell, *layout.figure_files("training"))
    # Without any seed, reading all of them raises an error that names the missing file.
    table = (trained if trained.grid.seeds else results).training(cell)
    histories = {seed: table[table["seed"] == seed] for seed in trained.grid.seeds}
    for seed, history in histories.items():
        if not history["kept"].any():
            raise RiftError(
                f"the training history of seed {seed} ({name_of(cell)}) has no epoch that was kept;"
                " train it again"
            )
    return TrainingHistories(histories)


def draw(data: TrainingHistories) -> Figure:
    """Draw PGD and clean accuracy of every epoch, one column per seed.

    The gap to the training images from the kept epoch on shows robust overfitting.
    """
    seeds = list(data.histories)
    across = min(len(seeds), ABREAST)
    bands = -(-len(seeds) // across)
    figure = sheet(SINGLE if across == 1 else DOUBLE, 0.3 + 2.6 * bands)
    panels = figure.subplots(
        2 * bands,
        across,
        sharex="col",
        sharey=False,
        squeeze=False,
        height_ratios=(5, 3) * bands,
    )
    for row, text in enumerate(("accuracy\nunder PGD (%)", "clean\naccuracy (%)")):
        for axis in panels[row::2].ravel():
            axis.sharey(panels[row, 0])
            axis.tick_params(labelleft=False)
        for axis in panels[row::2, 0]:
            axis.tick_params(labelleft=True)
            axis.set_ylabel(text)
    for number, seed in enumerate(seeds):
        band, column = divmod(number, across)
        upper, lower = panels[2 * band : 2 * band + 2, column]
        lower.tick_params(labelbottom=True)
        _draw_seed(upper, lower, seed, data.histories[seed])
    for spare in range(len(seeds), bands * across):
        for axis in panels[-2:, spare % across]:
            axis.set_visible(False)
    legend(figure, _entries(panels[0, 0], data), 2 if across == 1 else 3)
    return figure


def _draw_seed(upper: Axes, lower: Axes, seed: int, rows: pd.DataFrame) -> None:
    """Draw the history of one seed: PGD accuracy above, clean accuracy below."""
    kept = rows[rows["kept"]].iloc[0]
    weights = "averaged_" if kept.get("averaged_kept", False) else ""
    for axis, kind in ((upper, "adversarial"), (lower, "standard")):
        for start, (label, colour, style) in HISTORIES.items():
            if f"{start}{kind}_accuracy" in rows:
                accuracy = rows[f"{start}{kind}_accuracy"]
                axis.plot(rows["epoch"], accuracy, style, color=colour, label=label)
        place = (kept["epoch"], kept[f"{weights}{kind}_accuracy"])
        shade = HISTORIES[weights][1]
        axis.plot(*place, "o", color=shade, markersize=6, markeredgecolor="white", zorder=5)
        axis.axvline(kept["epoch"], color=INK, linewidth=0.8)
        for epoch in sudden_drops(rows):
            axis.axvline(epoch - 0.5, color=GREY, linestyle=":", linewidth=1)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))

    after = rows[rows["epoch"] >= kept["epoch"]]
    low, high = after["adversarial_accuracy"], after["train_adversarial_accuracy"]
    upper.fill_between(after["epoch"], low, high, **GAP)
    gaps = [f"{gap:.1f}".replace("-", "−") for gap in (high - low).iloc[[0, -1]]]
    averaged = ", averaged weights," if weights else ""
    upper.set_title(
        f"seed {seed}: epoch {kept['epoch']}{averaged} kept\n"
        f"gap {gaps[0]} there, {gaps[1]} at the end"
    )
    lower.set_xlabel("epoch")


def _entries(panel: Axes, data: TrainingHistories) -> Iterator[tuple[Any, str]]:
    """Yield the entries of the legend."""
    yield from zip(*panel.get_legend_handles_labels(), strict=True)
    yield Patch(**GAP), "gap after the kept epoch"
    yield Line2D([], [], color=INK, marker="o", linewidth=0.8), "kept epoch"
    if any(sudden_drops(rows) for rows in data.histories.values()):
        handle = Line2D([], [], color=GREY, linestyle=":")
        yield handle, "sudden drop of the learning rate"


def sudden_drops(rows: pd.DataFrame) -> list[int]:
    """Return the epochs at which the learning rate falls by more than half.

    Smooth schedules have none: their learning rate is never constant before or after a drop.
    """
    rate = rows["learning_rate"]
    still = rate == rate.shift()
    next_to_constant = still.shift(fill_value=False) | still.shift(-1, fill_value=False)
    return list(rows["epoch"][(rate < rate.shift() / 2) & next_to_constant])
