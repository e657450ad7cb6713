"""What fine-tuning each module alone gains, beside what could be known of the module before."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from rift import layout
from rift.layout import Cell
from rift.reporting.results import Results

STATISTICS: dict[str, str] = {
    "mrc": "MRC",
    "parameters": "weights",
    "depth": "depth",
    "clean_gradient": "gradient of the clean loss",
}
"""Columns of ``gains`` that are known before any fine-tuning, with their names for readers."""

LEAST = 3
"""Smallest number of modules for a rank correlation."""


def gains(results: Results, cell: Cell) -> pd.DataFrame:
    """Return one row per seed and module that a scope fine-tuned alone.

    Columns: ``seed``, ``module``, ``mrc`` in nats, ``parameters``, ``depth`` (0 for the first
    measured module, 1 for the last), ``clean_gradient`` (norm of the gradient of the clean loss in
    the module's weights; NaN where it was not measured), ``gain`` (change of the standard accuracy
    by the selected point, on the selection split, in points).

    Raises:
        RiftError: an artifact is damaged.
    """
    rows = [row for seed in results.grid.seeds for row in _of_seed(results, cell, seed)]
    columns = ["seed", "module", *STATISTICS, "gain"]
    return pd.DataFrame(rows, columns=columns).drop_duplicates(["seed", "module"])


def rank_correlation(first: "pd.Series[float]", second: "pd.Series[float]") -> float:
    """Return Spearman's ρ; NaN if there are fewer than ``LEAST`` pairs or a column is constant."""
    pairs = pd.concat([first, second], axis=1).dropna()
    ranks = pairs.rank().to_numpy()
    if len(pairs) < LEAST or (ranks == ranks[:1]).all(axis=0).any():
        return math.nan
    return float(np.corrcoef(ranks, rowvar=False)[0, 1])


def _of_seed(results: Results, cell: Cell, seed: int) -> Iterator[dict[str, object]]:
    """Yield the rows of a seed; several scopes may have fine-tuned the same module."""
    own = results.only_seed(seed)
    if not own.with_files(cell, layout.CRITICALITY).grid.seeds:
        return
    table = own.criticality(cell).reset_index(drop=True)
    for scope in results.grid.scopes:
        if not own.with_files(cell, *_files(scope)).grid.seeds:
            continue
        (modules,) = own.fine_tuned_modules(cell, scope)
        (choice,) = own.selections(cell, scope)
        row = table[table["module"] == modules[0]] if len(modules) == 1 else table[:0]
        if not row.empty:
            place = int(row.index[0])
            changes = own.sweep(cell, scope).set_index("alpha")["standard_change"]
            yield {
                "seed": seed,
                "module": modules[0],
                "mrc": row["mrc"].iloc[0],
                "parameters": row["parameters"].iloc[0],
                "depth": place / max(1, len(table) - 1),
                "clean_gradient": own.clean_gradients(cell, scope)[0],
                "gain": changes[choice["alpha"]],
            }


def _files(scope: str) -> tuple[str, ...]:
    return layout.finetuned(scope), layout.sweep(scope), layout.selection(scope)
