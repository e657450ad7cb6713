"""How critical each module is, and which scopes have taken it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from rift.config import Grid, Scope
from rift.errors import RiftError
from rift.reporting.results import Cell, Results, cells
from rift.reporting.tables import notes
from rift.reporting.tables.table import NOT_RUN, Table, listed, name_of, seeds_of, spread


def criticality(folder: Path, grid: Grid) -> Table:
    """Measure of every module, over seeds."""
    measured = {cell: Results(folder, grid).having(cell, "criticality.csv") for cell in cells(grid)}
    there = {cell: results for cell, results in measured.items() if results.grid.seeds}
    if not there:
        raise RiftError(f"{folder}: criticality of no run of the grid has been measured; run rift criticality first")
    texts: dict[tuple[str, str], dict[str, str]] = {}
    tables: list[pd.DataFrame] = []
    for cell, results in measured.items():
        if cell not in there:
            texts[name_of(cell), NOT_RUN] = {}
            continue
        table = results.criticality(cell)
        tables.append(table.assign(**cell._asdict()))
        takers = {scope: _chosen(results, cell, scope) for scope in grid.scopes}
        for module, rows in table.groupby("module", sort=False):
            texts[name_of(cell), str(module)] = {
                "Parameters": f"{rows['parameters'].iloc[0]:,}",
                "MRC (nats)": spread(rows["mrc"], 3),
                "Standard error": spread(rows["mrc_error"], 3),
                "Adv drop (points)": spread(rows["robust_accuracy_drop"], 1),
                "Rank by seed": listed(
                    f"{rank}{'=' if tied and rank > 1 else ''}"
                    for rank, tied in zip(rows["rank"], rows["tied"], strict=True)
                ),
                "Chosen by": listed(_takes(str(module), takers, grid)),
            }
    shown = pd.DataFrame.from_dict(texts, orient="index").fillna(NOT_RUN)
    shown.index = pd.MultiIndex.from_tuples(texts, names=["Base", "Module"])
    missing = [
        f"{name_of(cell)} (seed {listed(seed for seed in grid.seeds if seed not in results.grid.seeds)})"
        for cell, results in measured.items()
        if results.grid.seeds != grid.seeds
    ]
    return Table(
        "Module robust criticality",
        "How much the robust loss rises (MRC) and the robust accuracy falls when one module's weights are moved against it."
        " Modules in the network's order.",
        shown,
        pd.concat(tables, ignore_index=True),
        [
            f"Mean ± standard deviation over {seeds_of(grid)}."
            if len(grid.seeds) > 1
            else f"One seed: {seeds_of(grid)}.",
            "The standard error is that of the MRC over images: how far it would move with others of the same kind, the moved"
            " weight staying. (Of the method gradient it is over batches.)",
            "Rank 1 is the least critical module; = marks those whose MRC cannot be told from it: image by image, the"
            " difference is within 1.96 standard errors.",
            *([f"Not measured yet: {listed(missing)}."] if missing else []),
            *dict.fromkeys(notes.criticality(results, cell) for cell, results in there.items()),
        ],
    )


def _chosen(results: Results, cell: Cell, scope: Scope) -> dict[int, list[str]]:
    """Modules that a scope has fine-tuned, by seed, of the seeds that it was."""
    there = results.having(cell, f"{scope}/finetuned.safetensors")
    return dict(zip(there.grid.seeds, there.chosen(cell, scope), strict=True))


def _takes(module: str, takers: Mapping[Scope, Mapping[int, list[str]]], grid: Grid) -> Iterator[str]:
    """Name the scopes that have fine-tuned a module, and in which runs, if not in all."""
    for scope, chosen in takers.items():
        seeds = [seed for seed, modules in chosen.items() if module in modules]
        if seeds:
            yield scope if len(seeds) == len(grid.seeds) else f"{scope} (seed {listed(seeds)})"
