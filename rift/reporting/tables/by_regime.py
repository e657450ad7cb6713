"""Bases of every training regime before and after RiFT, as in the second table of the paper."""

from rift.reporting.results import Results
from rift.reporting.tables.comparisons import Comparison, compare, with_base
from rift.reporting.tables.main_results import BEFORE_AND_AFTER, before_and_after
from rift.reporting.tables.recipes import how_trained
from rift.reporting.tables.table import PAPER, Table

REGIMES = Comparison(
    title="Training regimes",
    caption=(
        f"{BEFORE_AND_AFTER}, by training regime. Rows marked ({PAPER}) are the numbers of Zhu et"
        " al. (ICCV 2023). All other rows were measured."
    ),
    entries=with_base(before_and_after),
    by_dataset=True,
    paper=True,
    how_trained=how_trained,
)


def regimes(results: Results) -> Table:
    """Make the table of training regimes."""
    return compare(results, REGIMES)
