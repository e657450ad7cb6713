"""Selection of the modules of a scope."""

from rift.config import Finetune, Scope
from rift.criticality.rows import Table
from rift.criticality.scopes import SCOPES
from rift.errors import RiftError


def candidates_of(table: Table, settings: Finetune) -> Table:
    """Return the rows from which the least critical modules are chosen.

    Args:
        table: criticality table in the network's order.
        settings: ``least_share`` is the smallest share of all parameters that a row may have;
            ``part`` is the allowed range of rows, from the first (0) to the last (1).
    """
    least = settings.least_share * sum(row.parameters for row in table)
    begin, end = (limit * (len(table) - 1) for limit in settings.part)
    return [
        row for place, row in enumerate(table) if begin <= place <= end and row.parameters >= least
    ]


def modules_of(scope: Scope, table: Table, settings: Finetune | None = None) -> list[str]:
    """Return the names of the modules of a scope.

    Fine-tuning trains the weights of each named module, submodules included.

    Args:
        scope: key of ``SCOPES``, or ``module-NAME``.
        table: criticality table in the network's order.
        settings: restrictions on the least critical modules; None allows all modules.

    Raises:
        RiftError: the scope does not exist, the table does not contain its module, or the settings
            allow too few modules.
    """
    for name, choose in SCOPES.items():
        if name == scope:
            return choose(table, candidates_of(table, settings or Finetune()))
    known = [row.module for row in table]
    module = scope.removeprefix("module-")
    if module == scope:
        raise RiftError(
            f"scope {scope!r} is not available; available: {', '.join(SCOPES)}, module-NAME"
        )
    if module not in known:
        raise RiftError(
            f"scope {scope!r}: the network has no such module; choose one of {', '.join(known)}"
        )
    return [module]
