"""Figures by name, each of one grid cell.

Add yours to ``FIGURES`` and its name to ``rift.config.FigureName``, and to ``DATASET_FIGURES`` there if it shows a data set
alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rift.artifacts import replacing
from rift.config import DATASET_FIGURES, CorruptionName, FigureName, Grid, Scope
from rift.data import corrupted, load
from rift.errors import RiftError
from rift.reporting.results import Cell, Results, cells

# Okabe and Ito's colours, told apart by colour-blind readers too; each scope keeps its own in all figures.
COLOURS: dict[Scope, str] = {
    "rift": "#0072B2",
    "robust-critical": "#D55E00",
    "all-layers": "#009E73",
    "last-layer": "#CC79A7",
    "top2": "#56B4E9",
    "top3": "#E69F00",
    "top5": "#999999",
}
INK, GREY = "#222222", "#888888"
LABELS: dict[Scope, str] = {
    "rift": "least critical module (RiFT)",
    "robust-critical": "most critical module",
    "all-layers": "all layers",
    "last-layer": "last layer",
    "top2": "2 least critical",
    "top3": "3 least critical",
    "top5": "5 least critical",
}
MARKERS = "osD^vP"
# What a training history says of each kind of accuracy, by how its columns begin.
HISTORIES = {
    "train_": ("training images", GREY, "--"),
    "": ("selection split", COLOURS["robust-critical"], "-"),
    "averaged_": ("selection split, averaged weights", COLOURS["rift"], "-"),
}
GAP: dict[str, Any] = {"color": "#f6d9c5", "linewidth": 0}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "pdf.fonttype": 42,
}


def interpolation(results: Results, cell: Cell) -> Figure:
    """Std against Adv on the selection split from base to fine-tuned weights, a panel a seed, a line a scope."""
    scopes = [scope for scope in results.grid.scopes if scope not in ("top2", "top3", "top5")]
    seeds = results.grid.seeds
    figure = Figure(figsize=(1.0 + 3.1 * len(seeds), 3.9), layout="constrained")
    axes: list[Axes] = list(np.atleast_1d(figure.subplots(1, len(seeds), sharex=True, sharey=True)))
    for number, scope in enumerate(scopes):
        sweep, choices = results.sweep(cell, scope), results.selections(cell, scope)
        colour = COLOURS.get(scope, INK)
        for axis, seed, choice in zip(axes, seeds, choices, strict=True):
            line = sweep[sweep["seed"] == seed]
            x, y = line["adversarial_accuracy"], line["standard_accuracy"]
            axis.plot(x, y, color=colour, marker=MARKERS[number % len(MARKERS)], markersize=3, linewidth=1, alpha=0.8)
            chosen = line[line["alpha"] == choice["alpha"]].iloc[0]
            where = (chosen["adversarial_accuracy"], chosen["standard_accuracy"])
            axis.plot(*where, "*", color=colour, markersize=13, markeredgecolor="white", markeredgewidth=0.8, zorder=5)
            if scope == "rift":
                axis.annotate(
                    f"α = {choice['alpha']:g}", where, xytext=(8, 6), textcoords="offset points", color=colour, zorder=6
                )
            if number == 0:
                start = choice["base"]
                floor = start["adversarial_accuracy"] - choice["tolerance"]
                axis.axvline(floor, color=GREY, linestyle=":", linewidth=1)
                axis.plot(
                    start["adversarial_accuracy"], start["standard_accuracy"], "o", color=INK, markersize=11, zorder=4
                )
                axis.set_title(f"seed {seed}, {choice['selection']} split")
    for axis in axes:
        axis.set_xlabel("accuracy under PGD (%)")
    axes[0].set_ylabel("accuracy on clean images (%)")
    handles = [
        Line2D([], [], color=COLOURS.get(scope, INK), marker=MARKERS[number % len(MARKERS)], markersize=3)
        for number, scope in enumerate(scopes)
    ]
    handles += [
        Line2D([], [], color=INK, marker="o", linestyle="none", markersize=7),
        Line2D([], [], color=GREY, marker="*", linestyle="none", markersize=10),
        Line2D([], [], color=GREY, linestyle=":"),
    ]
    texts = [_label(scope) for scope in scopes]
    texts += ["base (α = 0)", "chosen α", "least robustness allowed"]
    figure.legend(handles, texts, loc="outside lower center", ncols=2 if len(seeds) == 1 else 4)
    return figure


def criticality(results: Results, cell: Cell) -> Figure:
    """MRC and drop of robust accuracy of every module in the network's order, a mark a seed; and what scopes have chosen."""
    table = results.criticality(cell)
    modules, seeds = list(table["module"].unique()), results.grid.seeds
    scopes = [scope for scope in results.grid.scopes if scope not in ("all-layers", "top2", "top3", "top5")]
    chosen = {scope: results.chosen(cell, scope) for scope in scopes}
    names = max(map(len, modules))
    figure = Figure(
        figsize=(5.2 + 0.06 * names, 1.3 + max(0.17, 3.4 / len(modules)) * len(modules)), layout="constrained"
    )
    panels: list[Axes] = list(figure.subplots(1, 2, sharey=True))
    # What fell to 0 or below has no place on a logarithmic axis: it is drawn hollow at its edge.
    edge = _edge(table["mrc"])
    for number, (seed, rows) in enumerate(table.groupby("seed", sort=False)):
        rows = rows.set_index("module").reindex(modules)
        places = np.arange(len(modules)) + 0.16 * (number - (len(seeds) - 1) / 2)
        marker = MARKERS[number % len(MARKERS)]
        takers = {module: scope for scope, by_seed in chosen.items() for module in by_seed[seeds.index(seed)]}
        for axis, values in zip(panels, (rows["mrc"].clip(lower=edge), rows["robust_accuracy_drop"]), strict=True):
            for place, module, value, below in zip(places, modules, values, rows["mrc"] <= 0, strict=True):
                colour = COLOURS.get(takers[module], INK) if module in takers else GREY
                axis.plot(
                    value,
                    place,
                    marker,
                    color=colour,
                    markerfacecolor="white" if below and axis is panels[0] else colour,
                    markersize=6 if module in takers else 3.5,
                    zorder=4 if module in takers else 3,
                )
        error = 1.959964 * rows["mrc_error"]
        low, high = (rows["mrc"] - error).clip(lower=edge), (rows["mrc"] + error).clip(lower=edge)
        panels[0].hlines(places, low, high, color=GREY, linewidth=1, zorder=2)
    panels[0].set_xscale("log")
    panels[0].set_xlim(left=0.8 * edge)
    panels[0].set_xlabel("MRC (nats), with 95% interval")
    panels[1].set_xlabel("drop of accuracy under PGD (points)")
    panels[1].axvline(0, color=GREY, linewidth=0.6)
    panels[0].set_yticks(np.arange(len(modules)), modules, fontsize=7)
    panels[0].set_ylim(len(modules) - 0.4, -0.6)
    handles = [
        Line2D([], [], color=COLOURS.get(scope, INK), marker="o", linestyle="none", markersize=6) for scope in scopes
    ]
    texts = [_label(scope) for scope in scopes]
    if len(seeds) > 1:
        handles += [
            Line2D([], [], color=GREY, marker=MARKERS[number % len(MARKERS)], linestyle="none", markersize=3.5)
            for number in range(len(seeds))
        ]
        texts += [f"seed {seed}" for seed in seeds]
    figure.legend(handles, texts, loc="outside lower center", ncols=2)
    return figure


def _edge(values: "pd.Series[float]") -> float:
    """Where a logarithmic axis begins: below the least positive value, but not for the sake of one that is next to nothing."""
    positive = values[values > 0]
    return float(max(0.5 * positive.min(), 1e-5 * positive.max())) if len(positive) else 1e-5


def corruptions(results: Results, cell: Cell) -> Figure:
    """Accuracy of base and RiFT on every corruption, mean over severities and seeds."""
    grid = results.grid
    variants = ["base", *(["rift"] if "rift" in grid.scopes else [])]
    means = pd.DataFrame({name: results.ood(cell, name).groupby("corruption")["accuracy"].mean() for name in variants})
    means = means.sort_values("base")
    figure = Figure(figsize=(5.5, 1.3 + 0.27 * len(means)), layout="constrained")
    axis = figure.subplots()
    rows = np.arange(len(means))
    axis.plot(means["base"], rows, "o", color=INK, label="base")
    if "rift" in means:
        axis.hlines(rows, means["base"], means["rift"], color=GREY, linewidth=1.2, zorder=1)
        axis.plot(means["rift"], rows, "D", color=COLOURS["rift"], markersize=5, label="base + RiFT")
        for row, (before, after) in enumerate(means[["base", "rift"]].to_numpy()):
            text = f"{after - before:+.2f}".replace("-", "−")
            axis.annotate(text, (1.0, row), xycoords=("axes fraction", "data"), ha="left", va="center", fontsize=8)
        axis.annotate(
            "Δ (points)",
            (1.0, len(means) - 0.4),
            xycoords=("axes fraction", "data"),
            ha="left",
            va="bottom",
            fontsize=8,
        )
    axis.set_yticks(rows, [name.replace("_", " ") for name in means.index])
    axis.set_xlabel("accuracy on corrupted test images (%), mean over severities and seeds")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def training(results: Results, cell: Cell) -> Figure:
    """PGD and clean accuracy of every epoch, a column a seed; training images pull away from the others as it overfits."""
    table = results.training(cell)
    seeds = results.grid.seeds
    drops = {seed: _sudden_drops(table[table["seed"] == seed]) for seed in seeds}
    figure = Figure(figsize=(max(5.2, 1.2 + 3.1 * len(seeds)), 4.8), layout="constrained")
    panels = figure.subplots(2, len(seeds), sharex="col", sharey="row", squeeze=False, height_ratios=(5, 3))
    for column, seed in enumerate(seeds):
        rows = table[table["seed"] == seed]
        kept = rows[rows["kept"]].iloc[0]
        held = "averaged_" if _averaged_weights_were_kept(kept, cell) else ""
        for axis, kind in zip(panels[:, column], ("adversarial", "standard"), strict=True):
            for start, (label, colour, style) in HISTORIES.items():
                if f"{start}{kind}_accuracy" in rows:
                    axis.plot(
                        rows["epoch"], rows[f"{start}{kind}_accuracy"], style, color=colour, linewidth=1.3, label=label
                    )
            where = (kept["epoch"], kept[f"{held}{kind}_accuracy"])
            axis.plot(*where, "o", color=HISTORIES[held][1], markersize=8, markeredgecolor="white", zorder=5)
            axis.axvline(kept["epoch"], color=INK, linewidth=0.8)
            for epoch in drops[seed]:
                axis.axvline(epoch - 0.5, color=GREY, linestyle=":", linewidth=1)
        after = rows[rows["epoch"] >= kept["epoch"]]
        gaps = after["train_adversarial_accuracy"] - after["adversarial_accuracy"]
        panels[0, column].fill_between(
            after["epoch"], after["adversarial_accuracy"], after["train_adversarial_accuracy"], **GAP
        )
        which = f"epoch {kept['epoch']}{', averaged weights,' if held else ''} kept"
        then = f"gap {_points(gaps.iloc[0])} there, {_points(gaps.iloc[-1])} at the end"
        panels[0, column].set_title(f"seed {seed}: {which}\n{then}")
        panels[1, column].set_xlabel("epoch")
        panels[1, column].xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    panels[0, 0].set_ylabel("accuracy under PGD (%)")
    panels[1, 0].set_ylabel("accuracy on\nclean images (%)")
    handles, texts = panels[0, 0].get_legend_handles_labels()
    handles += [Patch(**GAP), Line2D([], [], color=INK, marker="o", linewidth=0.8)]
    texts += ["gap from the epoch kept on", "epoch kept"]
    if any(drops.values()):
        handles.append(Line2D([], [], color=GREY, linestyle=":"))
        texts.append("sudden drop of the learning rate")
    figure.legend(handles, texts, loc="outside lower center", ncols=min(3, 1 + len(seeds)))
    return figure


def _averaged_weights_were_kept(kept: "pd.Series[Any]", cell: Cell) -> bool:
    """Tell whose weights the epoch kept stands for, as training chose them: of equal ones the averaged."""
    kinds = ("standard", "adversarial") if cell.regime == "standard" else ("adversarial", "standard")
    averaged, last = ([kept.get(f"{start}{kind}_accuracy") for kind in kinds] for start in ("averaged_", ""))
    return None not in averaged and averaged >= last


def _sudden_drops(rows: pd.DataFrame) -> list[int]:
    """Epochs at which the learning rate falls by more than half; a smooth schedule, which never stands still, has none."""
    rate = rows["learning_rate"]
    still = rate == rate.shift()
    sudden = (rate < rate.shift() / 2) & (still.shift(fill_value=False) | still.shift(-1, fill_value=False))
    return list(rows["epoch"][sudden])


def _points(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def contact_sheet(results: Results, cell: Cell) -> Figure:
    """One test image after every corruption at every severity, beside the image itself."""
    folder = results.folder / "data" / cell.dataset
    known = [name for name in get_args(CorruptionName) if (folder / "corrupted" / f"{name}.npy").exists()]
    if not known:
        raise RiftError(f"{folder / 'corrupted'}: holds no corrupted images; run rift corrupt first")
    prepared = load(folder / "prepared.safetensors", ("test",))
    clean = np.moveaxis(prepared.images["test"][0], 0, -1)
    half = -(-len(known) // 2)
    figure = Figure(figsize=(8.6, 0.4 + 0.62 * half), layout="constrained")
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
                axis.set_title(str(severity) if severity else "clean", fontsize=8)
            if severity == 0:
                axis.set_ylabel(name.replace("_", "\n"), rotation=0, ha="right", va="center", fontsize=8)
    return figure


FIGURES: dict[FigureName, Callable[[Results, Cell], Figure]] = {
    "interpolation": interpolation,
    "criticality": criticality,
    "corruptions": corruptions,
    "training": training,
    "contact-sheet": contact_sheet,
}


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
        title = ", ".join(getattr(cell, field) for field in shown)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=GREY)
        # Ticks, texts and layout settle while the style holds.
        figure.draw_without_rendering()
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or PDF.

    Raises:
        RiftError: the ending stands for neither, or the file cannot be written.
    """
    # Without the date, so that equal figures are equal files.
    metadata = {".png": {}, ".pdf": {"CreationDate": None}}
    if path.suffix not in metadata:
        raise RiftError(f"{path}: figures are written as .png or .pdf, not {path.suffix or 'without an ending'}")
    with mpl.rc_context(STYLE), replacing(path) as beside:
        figure.savefig(beside, format=path.suffix[1:], dpi=200, metadata=metadata[path.suffix])


def _label(scope: Scope) -> str:
    return LABELS.get(scope, scope.removeprefix("module-"))
