"""The columns of the criticality table that scopes use."""

from collections.abc import Callable, Sequence
from typing import Protocol


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
