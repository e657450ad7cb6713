"""Figures by name, each of one cell of a grid.

To add a figure, write a file here, add a line to ``FIGURES``, and add its name to
``rift.config.FigureName``. A figure of a data set is also named in ``DATASET_FIGURES`` there, and
one that shows TWINS beside its baseline in ``TRANSFER_FIGURES``. A figure that does not need all
results of a cell has an entry in ``rift.layout.FIGURE_NEEDS``.

A figure has the width at which it is printed, ``style.SINGLE`` or ``style.DOUBLE``. Its type is at
least 6 points high.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from matplotlib.figure import Figure

from rift.config import FigureName
from rift.layout import Cell
from rift.reporting.figures import (
    contact_sheet,
    corruptions,
    criticality,
    interpolation,
    module_choice,
    pareto,
    training,
    transfer_mechanism,
    transfer_pareto,
    transfer_training,
)
from rift.reporting.results import Results

Data = TypeVar("Data")


@dataclass(frozen=True)
class FigureKind(Generic[Data]):
    """A figure.

    Attributes:
        collect: reads the data of the figure from the results of a cell.
        draw: draws the data.
    """

    collect: Callable[[Results, Cell], Data]
    draw: Callable[[Data], Figure]


FIGURES: dict[FigureName, FigureKind[Any]] = {
    "interpolation": FigureKind(interpolation.collect, interpolation.draw),
    "criticality": FigureKind(criticality.collect, criticality.draw),
    "corruptions": FigureKind(corruptions.collect, corruptions.draw),
    "pareto": FigureKind(pareto.collect, pareto.draw),
    "training": FigureKind(training.collect, training.draw),
    "module-choice": FigureKind(module_choice.collect, module_choice.draw),
    "transfer-training": FigureKind(transfer_training.collect, transfer_training.draw),
    "transfer-mechanism": FigureKind(transfer_mechanism.collect, transfer_mechanism.draw),
    "transfer-pareto": FigureKind(transfer_pareto.collect, pareto.draw),
    "contact-sheet": FigureKind(contact_sheet.collect, contact_sheet.draw),
}
