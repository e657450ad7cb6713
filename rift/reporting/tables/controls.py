"""Scopes next to their controls: whether a gain is due to what a scope is about."""

from collections.abc import Iterator

from rift.config import Grid
from rift.errors import RiftError
from rift.reporting.results import Results, cells
from rift.reporting.tables.comparisons import Comparison, Entry, Subject, compare
from rift.reporting.tables.table import Table


def entries(grid: Grid) -> Iterator[Entry]:
    """Yield a line per cell, scope and control of this scope."""
    for cell in cells(grid):
        for scope, control in grid.controls:
            label = f"{scope}, compared with {control}"
            yield Entry(label, Subject(cell, scope), Subject(cell, control))


CONTROLS = Comparison(
    title="Scopes and their controls",
    caption=(
        "Scopes next to the same without the part that they are about, on the same base and each at"
        " its own α: accuracy (%), and change from the control."
    ),
    entries=entries,
    reference="the control that the row names",
)


def controls(results: Results) -> Table:
    """Make the table of scopes and their controls.

    Raises:
        RiftError: the grid has no scope together with its control, none of them has been evaluated,
            or an artifact is damaged.
    """
    if not results.grid.controls:
        raise RiftError(
            f"{results.folder}: the grid has no scope together with its control, so the table would"
            " be empty; name both with --grid.scopes, such as mixed-training and more-training"
        )
    return compare(results, CONTROLS)
