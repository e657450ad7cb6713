"""Transfers: TWINS next to its baselines, and RiFT on top of each."""

from collections.abc import Iterator

from rift.config import Grid
from rift.config.transfer import BASELINES_OF_METHODS
from rift.errors import RiftError
from rift.reporting.results import Results, cells
from rift.reporting.tables.comparisons import Comparison, Entry, Subject, compare
from rift.reporting.tables.recipes import how_transferred
from rift.reporting.tables.table import BASE, Table


def entries(grid: Grid) -> Iterator[Entry]:
    """Yield a line per method, and one per method and scope.

    A transfer by TWINS is compared with the transfer by its baseline, if the grid has it. A scope
    is compared with the transfer that it fine-tunes.
    """
    for cell in cells(grid):
        if cell.kind == "transfers":
            without = BASELINES_OF_METHODS.get(cell.regime)
            compared = without is not None and without in grid.methods
            baseline = Subject(cell._replace(regime=str(without)), BASE) if compared else None
            yield Entry(cell.regime, Subject(cell, BASE), baseline)
            for scope in grid.scopes:
                yield Entry(f"{cell.regime} + {scope}", Subject(cell, scope), Subject(cell, BASE))


TRANSFER = Comparison(
    title="Transfers",
    caption=(
        "Robust bases, fine-tuned adversarially to another data set by TWINS and by its baselines,"
        " each before and after robust critical fine-tuning: accuracy (%) on test images of the"
        " target."
    ),
    entries=entries,
    block=("dataset", "architecture"),
    reference=(
        "the reference of the row (for twins-at and twins-trades: at and trades, the same without"
        " the frozen wing; for a fine-tuned scope: the transfer that it starts from)"
    ),
    how_trained=how_transferred,
    published=(
        "The published numbers of trades and twins-trades are those of AutoLoRa (Xu et al., ICLR"
        " 2024), which ran both again: a ResNet-50 from ImageNet, images of 224 pixels, accuracy"
        " under PGD-10. They print no deviations."
    ),
)


def transfer(results: Results) -> Table:
    """Make the table of transfers.

    Raises:
        RiftError: the grid has no transfers, none of them has been evaluated, or an artifact is
            damaged.
    """
    if not results.grid.transfers:
        raise RiftError(
            f"{results.folder}: no run of the grid is a transfer, so the table would be empty; name"
            " transfers with --grid.transfers"
        )
    return compare(results, TRANSFER)
