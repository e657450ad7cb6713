"""The columns of the criticality table that scopes use."""

from collections.abc import Callable, Sequence
from typing import Protocol


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


Table = Sequence[CriticalityRow]

WHOLE_NETWORK = ""
"""torch's name for the network itself among its modules."""

Choose = Callable[[Table, Table], list[str]]
"""The modules of a scope: function of the table and of the candidate rows → names of modules."""
