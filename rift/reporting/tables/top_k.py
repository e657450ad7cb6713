"""Fine-tuning of the k least critical modules, as in the fourth table of the paper."""

from rift.config import Scope
from rift.reporting.results import Results
from rift.reporting.tables.comparisons import Comparison, compare, scopes_with_base
from rift.reporting.tables.notes import NOT_BY_TOLERANCE
from rift.reporting.tables.table import Table

SCOPES: dict[str, Scope] = {
    "top 1 (RiFT)": "rift",
    "top 2": "top2",
    "top 3": "top3",
    "top 5": "top5",
}
TOP_K = Comparison(
    title="How many modules to fine-tune",
    caption=(
        "Fine-tuning of the k least critical modules of the same base: accuracy (%) and change from"
        " the base."
    ),
    about_paper=NOT_BY_TOLERANCE,
    entries=scopes_with_base(lambda _: SCOPES),
)


def top_k(results: Results) -> Table:
    """Make the table of the k least critical modules."""
    return compare(results, TOP_K)
