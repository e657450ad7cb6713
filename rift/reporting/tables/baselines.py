"""RiFT next to what a user would do instead with the same base."""

from rift.config import Scope
from rift.reporting.results import Results
from rift.reporting.tables.comparisons import Comparison, compare, scopes_with_base
from rift.reporting.tables.table import Table

SCOPES: dict[str, Scope] = {
    "least critical module (RiFT)": "rift",
    "RiFT, frozen statistics": "rift-frozen",
    "statistics of clean images": "statistics",
    "statistics of attacked images": "statistics-attacked",
    "norms and biases": "norms",
    "more training of the base": "more-training",
    "clean and attacked images": "mixed-training",
    "more training, then all layers": "earn-then-spend",
    "RiFT, then all layers": "rift-then-spend",
}
BASELINES = Comparison(
    title="What a user would do instead",
    caption=(
        "RiFT and its baselines on the same base, each at its own α: accuracy (%) and change from"
        " the base."
    ),
    entries=scopes_with_base(lambda _: SCOPES),
)


def baselines(results: Results) -> Table:
    """Make the table of RiFT and its baselines."""
    return compare(results, BASELINES)
