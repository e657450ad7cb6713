"""The classifier (scope ``last-layer``)."""

from rift.criticality.rows import Table
from rift.errors import RiftError


def last_layer(table: Table, _candidates: Table) -> list[str]:
    """Return the name of the last linear layer.

    Raises:
        RiftError: the network has no linear layer.
    """
    linear = [row.module for row in table if row.kind == "linear"]
    if not linear:
        raise RiftError("scope 'last-layer': the network has no linear layer; choose module-NAME")
    return linear[-1:]
