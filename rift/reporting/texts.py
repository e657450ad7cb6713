"""Short texts that tables and figures share."""

from collections.abc import Iterable, Sequence

from rift.layout import Cell


def name_of(cell: Cell) -> str:
    """Return the name of a cell for a reader."""
    return ", ".join(cell)


def listed(values: Iterable[object]) -> str:
    """Return values with commas between them."""
    return ", ".join(map(str, values))


def seeds_text(seeds: Sequence[int]) -> str:
    """Return ``seed 0`` or ``seeds 0, 1``."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}"


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign. A value that rounds to zero is not negative."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def between(low: float, high: float) -> str:
    """Return the interval of a difference."""
    return f"[{signed(low)}, {signed(high)}]"
