"""Which modules a scope names."""

from rift.config import Finetune, Scope
from rift.criticality.rows import Table
from rift.criticality.scopes import SCOPES
from rift.errors import RiftError


def candidates_of(table: Table, settings: Finetune) -> Table:
    """Return the rows that the least critical modules are chosen from.

    Args:
        table: the criticality table in the network's order.
        settings: ``least_share``, of the parameters of all rows, and ``part``, of the rows from first (0) to last (1).
    """
    least = settings.least_share * sum(row.parameters for row in table)
    begin, end = (limit * (len(table) - 1) for limit in settings.part)
    return [
        row for place, row in enumerate(table) if begin <= place <= end and row.parameters >= least
    ]


def modules_of(scope: Scope, table: Table, settings: Finetune | None = None) -> list[str]:
    """Say which modules a scope names; the weights of each, and of all within it, are fine-tuned.

    Args:
        scope: a key of ``SCOPES``, or ``module-NAME``.
        table: the criticality table in the network's order.
        settings: say which modules may be the least critical ones; all of them, if not given.

    Raises:
        RiftError: there is no such scope, the table has no such module, or too few may be chosen.
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
            f"scope {scope!r}: the network has no such module; it has: {', '.join(known)}"
        )
    return [module]
