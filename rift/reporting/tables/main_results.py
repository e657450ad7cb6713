"""The main table: bases before and after RiFT, as in the first table of the paper."""

from rift.config import Grid, Variant
from rift.layout import Cell
from rift.reporting.results import Results
from rift.reporting.tables.comparisons import Comparison, compare, with_base
from rift.reporting.tables.table import BASE, Table

BEFORE_AND_AFTER = (
    "Accuracy (%) on clean (Std), corrupted (OOD) and attacked (Adv) test images: adversarially"
    " trained bases (AT) before and after robust critical fine-tuning (RiFT)"
)


def before_and_after(cell: Cell, grid: Grid) -> dict[str, Variant]:
    """Return the base and, if the grid has it, RiFT; transfers have a table of their own."""
    if cell.kind == "transfers":
        return {}
    base = "standard" if cell.regime == "standard" else "AT"
    return {base: BASE, f"{base} + RiFT": "rift"} if "rift" in grid.scopes else {base: BASE}


MAIN = Comparison(
    title="Main results",
    caption=f"{BEFORE_AND_AFTER}.",
    entries=with_base(before_and_after),
    by_dataset=True,
    averages=True,
)


def main(results: Results) -> Table:
    """Make the main table."""
    return compare(results, MAIN)
