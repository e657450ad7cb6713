"""The whole network (scope ``all-layers``)."""

from rift.criticality.rows import WHOLE_NETWORK, Table


def all_layers(_table: Table, _candidates: Table) -> list[str]:
    """Return the name of the whole network; batch norm and biases are included."""
    return [WHOLE_NETWORK]
