"""Scopes: which modules of a network are fine-tuned.

A scope is one function of the criticality table that returns names of modules. Add yours to ``SCOPES`` and its name to
``rift.config.NamedScope``.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from rift.config import NamedScope, Scope
from rift.errors import RiftError


class Measured(Protocol):
    """The columns of the criticality table that scopes look at."""

    @property
    def module(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def rank(self) -> int: ...


Table = Sequence[Measured]

WHOLE_NETWORK = ""  # the name that torch gives the network itself among its modules


def least_critical(count: int) -> Callable[[Table], list[str]]:
    """Choose the modules of lowest MRC."""
    return lambda table: [row.module for row in sorted(table, key=lambda row: row.rank)[:count]]


def most_critical(table: Table) -> list[str]:
    return [max(table, key=lambda row: row.rank).module]


def all_layers(_table: Table) -> list[str]:
    """Choose the whole network, batch norm and biases included."""
    return [WHOLE_NETWORK]


def last_layer(table: Table) -> list[str]:
    return [[row.module for row in table if row.kind == "linear"][-1]]


SCOPES: dict[NamedScope, Callable[[Table], list[str]]] = {
    "rift": least_critical(1),
    "robust-critical": most_critical,
    "all-layers": all_layers,
    "last-layer": last_layer,
    "top2": least_critical(2),
    "top3": least_critical(3),
    "top5": least_critical(5),
}


def modules_of(scope: Scope, table: Table) -> list[str]:
    """Say which modules a scope names; the weights of each, and of all within it, are fine-tuned.

    Args:
        scope: a key of ``SCOPES``, or ``module-NAME``.
        table: the criticality table in the network's order.

    Raises:
        RiftError: there is no such scope, or the table has no such module.
    """
    for name, choose in SCOPES.items():
        if name == scope:
            return choose(table)
    known = [row.module for row in table]
    module = scope.removeprefix("module-")
    if module == scope:
        raise RiftError(f"scope {scope!r} is not available; available: {', '.join(SCOPES)}, module-NAME")
    if module not in known:
        raise RiftError(f"scope {scope!r}: the network has no such module; it has: {', '.join(known)}")
    return [module]
