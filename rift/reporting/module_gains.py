"""What fine-tuning each module alone gains, beside what could be known of the module before."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rift import layout
from rift.config import LEAST_MODULES
from rift.layout import Cell
from rift.reporting.results import Results
from rift.reporting.texts import between, signed
from rift.statistics import over_seeds

STATISTICS: dict[str, str] = {
    "mrc": "MRC",
    "parameters": "weights",
    "depth": "depth",
    "clean_gradient": "gradient of the clean loss",
}
"""Columns of ``gains`` that are known before any fine-tuning, with their names for readers."""

LEAST_SEEDS = 3
"""Smallest number of seeds for the interval of a rank correlation."""


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
    """Return Spearman's ρ; NaN for fewer than ``LEAST_MODULES`` pairs or a constant column."""
    pairs = pd.concat([first, second], axis=1).dropna()
    ranks = pairs.rank().to_numpy()
    if len(pairs) < LEAST_MODULES or (ranks == ranks[:1]).all(axis=0).any():
        return math.nan
    return float(np.corrcoef(ranks, rowvar=False)[0, 1])


@dataclass(frozen=True)
class Prediction:
    """How well a statistic predicts the gain.

    Attributes:
        by_seed: Spearman's ρ over the modules of each seed; NaN where it is not defined.
    """

    by_seed: dict[int, float]

    @classmethod
    def of(cls, table: pd.DataFrame, column: str) -> "Prediction":
        """Return the prediction of the gains in a table of ``gains`` by a column of it."""
        return cls(
            {
                int(str(seed)): rank_correlation(rows[column], rows["gain"])
                for seed, rows in table.groupby("seed")
            }
        )

    @property
    def text(self) -> str:
        """Return the mean over seeds, for ``LEAST_SEEDS`` or more with Student's 95% interval.

        It is empty if ρ is not defined for any seed.
        """
        known = np.array([value for value in self.by_seed.values() if not math.isnan(value)])
        if len(known) == 0:
            return ""
        mean = signed(float(known.mean()))
        if len(known) < LEAST_SEEDS:
            return mean
        low, high = over_seeds(known)
        return f"{mean} {between(max(low, -1.0), min(high, 1.0))}"


def _of_seed(results: Results, cell: Cell, seed: int) -> Iterator[dict[str, object]]:
    """Yield the rows of a seed; several scopes may have fine-tuned the same module."""
    own = results.only_seed(seed)
    if not own.with_files(cell, layout.CRITICALITY).grid.seeds:
        return
    table = own.criticality(cell).reset_index(drop=True)
    for scope in results.grid.scopes:
        measured = own.with_files(cell, layout.sweep(scope), layout.selection(scope))
        if not measured.with_fine_tuning(cell, scope).grid.seeds:
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
