"""The columns of the criticality table that scopes use."""

from collections.abc import Callable, Sequence
from typing import Protocol

from rift.errors import RiftError


class CriticalityRow(Protocol):
    """The columns of a row of the criticality table that scopes use."""

    @property
    def module(self) -> str:
        """Return the name of the module."""

    @property
    def kind(self) -> str:
        """Return ``conv`` or ``linear``."""

    @property
    def parameters(self) -> int:
        """Return the number of entries of its weight."""

    @property
    def rank(self) -> int:
        """Return its place in ascending order of MRC, from 1."""

    @property
    def settled(self) -> bool:
        """Return whether its rank counts: not if a race measured it on too few images."""


Table = Sequence[CriticalityRow]

WHOLE_NETWORK = ""
"""torch's name for the network itself among its modules."""

Choose = Callable[[Table, Table], list[str]]
"""The modules of a scope: function of the table and of the candidate rows → names of modules."""


def allowed(sizes: Sequence[int], least_share: float, part: tuple[float, float]) -> list[int]:
    """Return the places of the modules that may be one of the least critical.

    Args:
        sizes: number of parameters of every module, in the network's order.
        least_share: smallest share of all parameters that a module may have.
        part: allowed range of places, from the first module (0) to the last (1).
    """
    least = least_share * sum(sizes)
    begin, end = (limit * (len(sizes) - 1) for limit in part)
    return [place for place, size in enumerate(sizes) if begin <= place <= end and size >= least]


def check_settled(chosen: Table, settings: str) -> None:
    """Check that the ranks of the chosen modules count.

    Args:
        chosen: rows of the modules.
        settings: settings with which a race settles them.

    Raises:
        RiftError: a race has not settled one of them.
    """
    for row in chosen:
        if not row.settled:
            raise RiftError(
                f"module {row.module}: the race did not settle whether it is chosen; measure"
                f" criticality again with {settings}"
            )
