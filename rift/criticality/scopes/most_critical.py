"""The module of highest MRC (scope ``robust-critical``)."""

from rift.criticality.rows import Table


def most_critical(table: Table, _candidates: Table) -> list[str]:
    """Return the name of the module of highest MRC."""
    return [max(table, key=lambda row: row.rank).module]
