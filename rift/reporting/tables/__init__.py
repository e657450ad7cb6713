"""Tables by name. Add yours to ``TABLES`` and its name to ``rift.config.TableName``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rift.config import Grid, TableName
from rift.reporting.results import Results
from rift.reporting.tables import comparisons, corruptions, cost, criticality, notes
from rift.reporting.tables.table import DELTA, NOT_RUN, PAPER, Table

__all__ = ["DELTA", "NOT_RUN", "PAPER", "TABLES", "Table"]

Maker = Callable[[Path, Grid], Table]


def _labelled(make: Maker) -> Maker:
    """Say in every table, whatever it shows, if α was selected on test data, and by which protocol."""

    def labelled(folder: Path, grid: Grid) -> Table:
        table, results = make(folder, grid), Results(folder, grid)
        if not notes.selected_on_test(results):
            return table
        said = notes.protocol(results)
        return replace(
            table,
            title=f"{table.title} (selected on test data)",
            caption=f"{table.caption} α was selected on test data, as in the paper.",
            notes=[*([said] if said else []), *table.notes],
        )

    return labelled


TABLES: dict[TableName, Maker] = {
    "main": _labelled(comparisons.main),
    "regimes": _labelled(comparisons.regimes),
    "module-ablation": _labelled(comparisons.module_ablation),
    "top-k": _labelled(comparisons.top_k),
    "corruptions": _labelled(corruptions.corruptions),
    "criticality": _labelled(criticality.criticality),
    "cost": _labelled(cost.cost),
}
