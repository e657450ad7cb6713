"""How a base came about."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rift.errors import RiftError
from rift.reporting.figures.style import COLOURS, DOUBLE, GREY, INK, SINGLE, legend, sheet
from rift.reporting.results import Cell, Results

# What a training history says of each kind of accuracy, by how its columns begin.
HISTORIES = {
    "train_": ("training images", GREY, "--"),
    "": ("selection split", COLOURS["robust-critical"], "-"),
    "averaged_": ("selection split, averaged weights", COLOURS["rift"], "-"),
}
GAP: dict[str, Any] = {"color": "#f6d9c5", "linewidth": 0}
ABREAST = 3


def draw(results: Results, cell: Cell) -> Figure:
    """PGD and clean accuracy of every epoch, a column a seed; training images pull away from the others as it overfits."""
    run = results.having(cell, "training.csv")
    table = (run if run.grid.seeds else results).training(cell)
    seeds = run.grid.seeds
    drops = {seed: _sudden_drops(table[table["seed"] == seed]) for seed in seeds}
    across = min(len(seeds), ABREAST)
    bands = -(-len(seeds) // across)
    figure = sheet(SINGLE if across == 1 else DOUBLE, 0.3 + 2.6 * bands)
    panels = figure.subplots(2 * bands, across, sharex="col", sharey=False, squeeze=False, height_ratios=(5, 3) * bands)
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
        _seed(upper, lower, table[table["seed"] == seed], drops[seed], cell)
    for spare in range(len(seeds), bands * across):
        for axis in panels[-2:, spare % across]:
            axis.set_visible(False)
    handles, texts = panels[0, 0].get_legend_handles_labels()
    entries = list(zip(handles, texts, strict=True))
    entries += [
        (Patch(**GAP), "gap from the epoch kept on"),
        (Line2D([], [], color=INK, marker="o", linewidth=0.8), "epoch kept"),
    ]
    if any(drops.values()):
        entries.append((Line2D([], [], color=GREY, linestyle=":"), "sudden drop of the learning rate"))
    legend(figure, entries, 2 if across == 1 else 3)
    return figure


def _seed(upper: Axes, lower: Axes, rows: pd.DataFrame, drops: list[int], cell: Cell) -> None:
    """Draw the history of one seed: under PGD above, on clean images below."""
    seed = rows["seed"].iloc[0]
    if not rows["kept"].any():
        raise RiftError(f"the training history of seed {seed} ({', '.join(cell)}) says of no epoch that it was kept")
    kept = rows[rows["kept"]].iloc[0]
    held = "averaged_" if kept.get("averaged_kept", False) else ""
    for axis, kind in ((upper, "adversarial"), (lower, "standard")):
        for start, (label, colour, style) in HISTORIES.items():
            if f"{start}{kind}_accuracy" in rows:
                axis.plot(rows["epoch"], rows[f"{start}{kind}_accuracy"], style, color=colour, label=label)
        where = (kept["epoch"], kept[f"{held}{kind}_accuracy"])
        axis.plot(*where, "o", color=HISTORIES[held][1], markersize=6, markeredgecolor="white", zorder=5)
        axis.axvline(kept["epoch"], color=INK, linewidth=0.8)
        for epoch in drops:
            axis.axvline(epoch - 0.5, color=GREY, linestyle=":", linewidth=1)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    after = rows[rows["epoch"] >= kept["epoch"]]
    gaps = after["train_adversarial_accuracy"] - after["adversarial_accuracy"]
    upper.fill_between(after["epoch"], after["adversarial_accuracy"], after["train_adversarial_accuracy"], **GAP)
    which = f"epoch {kept['epoch']}{', averaged weights,' if held else ''} kept"
    upper.set_title(f"seed {seed}: {which}\ngap {_points(gaps.iloc[0])} there, {_points(gaps.iloc[-1])} at the end")
    lower.set_xlabel("epoch")


def _sudden_drops(rows: pd.DataFrame) -> list[int]:
    """Epochs at which the learning rate falls by more than half; a smooth schedule, which never stands still, has none."""
    rate = rows["learning_rate"]
    still = rate == rate.shift()
    sudden = (rate < rate.shift() / 2) & (still.shift(fill_value=False) | still.shift(-1, fill_value=False))
    return list(rows["epoch"][sudden])


def _points(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")
