"""Scopes: which modules of a network are fine-tuned.

A scope is one function of the criticality table, and of those of its rows that settings allow the least critical module to be
chosen from, that returns names of modules. Add yours to ``SCOPES`` and its name to
``rift.config.NamedScope``.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from rift.config import Finetune, NamedScope, Scope
from rift.errors import RiftError


class Measured(Protocol):
    """The columns of the criticality table that scopes look at."""

    @property
    def module(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def parameters(self) -> int: ...
    @property
    def rank(self) -> int: ...


Table = Sequence[Measured]

WHOLE_NETWORK = ""  # the name that torch gives the network itself among its modules


Choose = Callable[[Table, Table], list[str]]


def least_critical(count: int) -> Choose:
    """Choose the modules of lowest MRC out of those that may be."""

    def choose(_table: Table, candidates: Table) -> list[str]:
        if len(candidates) < count:
            raise RiftError(
                f"{len(candidates)} modules are left to choose {count} from; lower finetune.least_share or widen finetune.part"
            )
        return [row.module for row in sorted(candidates, key=lambda row: row.rank)[:count]]

    return choose


def most_critical(table: Table, _candidates: Table) -> list[str]:
    return [max(table, key=lambda row: row.rank).module]


def all_layers(_table: Table, _candidates: Table) -> list[str]:
    """Choose the whole network, batch norm and biases included."""
    return [WHOLE_NETWORK]


def last_layer(table: Table, _candidates: Table) -> list[str]:
    return [[row.module for row in table if row.kind == "linear"][-1]]


SCOPES: dict[NamedScope, Choose] = {
    "rift": least_critical(1),
    "robust-critical": most_critical,
    "all-layers": all_layers,
    "last-layer": last_layer,
    "top2": least_critical(2),
    "top3": least_critical(3),
    "top5": least_critical(5),
}


def candidates_of(table: Table, settings: Finetune) -> Table:
    """Return the rows that the least critical modules are chosen from.

    Args:
        table: the criticality table in the network's order.
        settings: ``least_share``, of the parameters of all rows, and ``part``, of the rows from first (0) to last (1).
    """
    least = settings.least_share * sum(row.parameters for row in table)
    begin, end = (limit * (len(table) - 1) for limit in settings.part)
    return [row for place, row in enumerate(table) if begin <= place <= end and row.parameters >= least]


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
        raise RiftError(f"scope {scope!r} is not available; available: {', '.join(SCOPES)}, module-NAME")
    if module not in known:
        raise RiftError(f"scope {scope!r}: the network has no such module; it has: {', '.join(known)}")
    return [module]
