"""The module of highest MRC (scope ``robust-critical``)."""

from rift.criticality.rows import Table, check_settled


def most_critical(table: Table, _candidates: Table) -> list[str]:
    """Return the name of the module of highest MRC.

    Raises:
        RiftError: a race has not settled it.
    """
    chosen = max(table, key=lambda row: row.rank)
    check_settled([chosen], "criticality.most 1")
    return [chosen.module]
