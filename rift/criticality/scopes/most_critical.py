"""The module of highest MRC (scope ``robust-critical``)."""

from rift.criticality.rows import Table


def most_critical(table: Table, _candidates: Table) -> list[str]:
    return [max(table, key=lambda row: row.rank).module]
