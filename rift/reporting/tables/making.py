"""Makes a table by its name."""

from dataclasses import replace
from pathlib import Path

from rift.config import Grid, TableName
from rift.layout import table_needs
from rift.reporting.results import Results
from rift.reporting.tables import TABLES, notes
from rift.reporting.tables.table import Table


def make_table(name: TableName, folder: Path, grid: Grid) -> Table:
    """Make a table. Its title, caption and notes say if α was selected on test data.

    Args:
        name: name of the table.
        folder: folder of the experiment.
        grid: cells, seeds and variants to show.

    Raises:
        RiftError: the table would be empty, or an artifact is damaged.
    """
    results = Results(folder, grid, table_needs(name))
    table = TABLES[name](results)
    table = replace(table, notes=[*table.notes, *notes.versions(results)])
    if not notes.selected_on_test(results):
        return table
    return replace(
        table,
        title=f"{table.title} (selected on test data)",
        caption=f"{table.caption} α was selected on test data, as in the paper.",
        notes=[*notes.protocol(results), *table.notes],
    )
