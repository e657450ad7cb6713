"""Clean accuracy against robust accuracy of TWINS and of its baseline, on test images."""

from dataclasses import replace
from itertools import product

from rift import layout
from rift.artifacts import read_outcomes
from rift.config import FigureName
from rift.errors import RiftError
from rift.layout import Cell, Run
from rift.reporting.figures.method_histories import baseline_beside
from rift.reporting.figures.pareto import ATTACKS, Point, Tradeoff, point_of
from rift.reporting.figures.style import BASELINE, TWINS
from rift.reporting.outcomes import Metric
from rift.reporting.results import Results

NAME: FigureName = "transfer-pareto"


def collect(results: Results, cell: Cell) -> Tradeoff:
    """Read the accuracies of a transfer by TWINS and of its baseline, before and after fine-tuning.

    Changes are those from the transfer by the baseline.

    Raises:
        RiftError: the cell is no transfer by TWINS, no seed of both was evaluated under PGD, an
            artifact is damaged, or the variants were evaluated on different images.
    """
    baseline = baseline_beside(cell, NAME)
    panels: dict[Metric, list[Point]] = {}
    for attack in ATTACKS:
        points = _points(results, baseline, cell, attack)
        if {point.method for point in points} == {baseline.regime, cell.regime}:
            panels[attack] = points
    if not panels:
        files = layout.figure_files(NAME, variants=("base",))
        for each, seed, file in product((baseline, cell), results.grid.seeds, files):
            read_outcomes(results.file(each, seed, file))  # raises an error if it is missing
        run = results.folder / Run(cell, results.grid.seeds[0]).name
        raise RiftError(f"{run}: the figure needs PGD results of both methods; run rift evaluate")
    shades = {baseline.regime: BASELINE, cell.regime: TWINS}
    return Tradeoff(panels, results.grid.seeds, shades)


def _points(results: Results, baseline: Cell, cell: Cell, attack: Metric) -> list[Point]:
    """Return the points of all variants of both methods that were evaluated, the baseline first."""
    grid = results.grid
    names = [name for name in grid.variants if attack != "autoattack" or name in grid.autoattack]
    found = [
        (each, point_of(results, baseline, each, variant, attack))
        for each, variant in product((baseline, cell), names)
    ]
    points = [replace(point, method=each.regime) for each, point in found if point is not None]
    return points if points and points[0].variant == "base" else []
