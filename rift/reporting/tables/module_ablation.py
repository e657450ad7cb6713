"""Fine-tuning of other scopes than the least critical module, as in the paper's third table."""

from rift.config import Grid, Scope
from rift.reporting.results import Results
from rift.reporting.tables.comparisons import Comparison, compare, scopes_with_base
from rift.reporting.tables.notes import NOT_BY_TOLERANCE
from rift.reporting.tables.table import Table


def scopes(grid: Grid) -> dict[str, Scope]:
    """Return the scopes by their labels, single modules of the grid last."""
    return {
        "all layers": "all-layers",
        "last layer": "last-layer",
        "most critical module": "robust-critical",
        "least critical module (RiFT)": "rift",
        **{
            scope.removeprefix("module-"): scope
            for scope in grid.scopes
            if scope.startswith("module-")
        },
    }


MODULE_ABLATION = Comparison(
    title="Which module to fine-tune",
    caption=(
        "Fine-tuning of different parts of the same base: accuracy (%) and change from the base."
    ),
    about_paper=NOT_BY_TOLERANCE,
    entries=scopes_with_base(scopes),
)


def module_ablation(results: Results) -> Table:
    """Make the table of scopes."""
    return compare(results, MODULE_ABLATION)
