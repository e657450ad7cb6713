"""Which rule chooses the module: what is known before fine-tuning, against what it gains."""

import math
from collections.abc import Mapping

import pandas as pd

from rift import layout
from rift.config import LEAST_MODULES
from rift.errors import RiftError
from rift.reporting.module_gains import LEAST_SEEDS, STATISTICS, Prediction, gains
from rift.reporting.results import Results, cells
from rift.reporting.tables.table import NOT_RUN, Table
from rift.reporting.texts import listed, name_of, signed

CAPTION = (
    "Modules that were fine-tuned alone: does a statistic that is known before predict the gain in"
    " standard accuracy at equal robustness? Both are measured on the selection split."
)
NOTES = (
    "Gain: change of the standard accuracy from the base to the selected point, whose accuracy"
    " under PGD is that of the base within the tolerance.",
    "ρ: Spearman's rank correlation over the modules of a seed, mean over seeds with Student's 95%"
    f" interval for {LEAST_SEEDS} seeds or more. A dash: fewer than {LEAST_MODULES}"
    " modules, or equal values.",
    "Smallest, largest: the module that the rule would choose in each seed, and its mean gain."
    " RiFT chooses the smallest MRC.",
    "Hindsight is the largest gain of all modules. It is chosen by the gains themselves, so it is"
    " larger than what any rule can promise.",
    "Depth counts the measured modules from 0 (first) to 1 (last). The gradient is the norm of the"
    " gradient of the clean loss in the weights of the module, at the base.",
)


def module_choice(results: Results) -> Table:
    """Make the table of rules for the choice of the module."""
    found = {cell: gains(results, cell) for cell in cells(results.grid)}
    measured = (results.with_files(cell, layout.CRITICALITY).grid.seeds for cell in found)
    if not any(measured):
        raise RiftError(
            f"{results.folder}: criticality was measured for no run of the grid; run rift"
            " criticality first"
        )
    texts: dict[tuple[str, str], dict[str, str]] = {}
    for cell, table in found.items():
        for column, name in STATISTICS.items():
            if not table[column].isna().all():
                texts[name_of(cell), name] = _rule(table, column)
        best = table.loc[table.groupby("seed")["gain"].idxmax()] if not table.empty else table
        texts[name_of(cell), "hindsight"] = {"Largest": _chosen(best)}
    columns = ["ρ with the gain", "By seed", "Smallest", "Largest"]
    filled = [[row.get(column, NOT_RUN) for column in columns] for row in texts.values()]
    shown = pd.DataFrame(filled, columns=columns)
    shown.index = pd.MultiIndex.from_tuples(texts, names=["Base", "Statistic"])
    numbers = [table.assign(**cell._asdict()) for cell, table in found.items()]
    return Table(
        "Which rule chooses the module",
        CAPTION,
        shown,
        pd.concat(numbers, ignore_index=True),
        [*NOTES, *_counts({name_of(cell): table for cell, table in found.items()})],
    )


def _rule(table: pd.DataFrame, column: str) -> dict[str, str]:
    """Return the texts of a statistic."""
    prediction = Prediction.of(table, column)
    texts = {
        "ρ with the gain": prediction.text or NOT_RUN,
        "By seed": listed(
            NOT_RUN if math.isnan(value) else signed(value) for value in prediction.by_seed.values()
        ),
    }
    seeds = table.dropna(subset=[column]).groupby("seed")[column]
    texts["Smallest"] = _chosen(table.loc[seeds.idxmin()])
    texts["Largest"] = _chosen(table.loc[seeds.idxmax()])
    return texts


def _chosen(rows: pd.DataFrame) -> str:
    """Return the modules that a rule chooses, one row per seed, and their mean gain."""
    if rows.empty:
        return NOT_RUN
    return f"{signed(float(rows['gain'].mean()))}: {listed(dict.fromkeys(rows['module']))}"


def _counts(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return a note about the number of modules of each base."""
    counts = (f"{name}: {table['module'].nunique()}" for name, table in found.items())
    return [f"Number of modules that were fine-tuned alone: {listed(counts)}."]
