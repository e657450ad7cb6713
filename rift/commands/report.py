"""Reporting: ``rift table``, ``rift compare``, ``rift figure`` and ``rift overview``."""

from pathlib import Path
from typing import get_args

from pydantic import Field
from pydantic_settings import CliPositionalArg

from rift.commands.command import Command, Output
from rift.config import FigureName, Grid, TableName


class Table(Command):
    """Make a table from evaluated runs; the ending of each output selects its format."""

    stage = "table"

    name: CliPositionalArg[TableName] = Field(
        description=f"Name of the table: {', '.join(get_args(TableName))}."
    )
    results: Path = Field(description="Folder of the experiment (results/NAME).")
    grid: Grid
    output: Output[tuple[Path, ...]] = Field(
        min_length=1, description="Output files: .csv, .md, .tex or .html."
    )

    def run(self) -> None:
        from rift.reporting.formats import write_table
        from rift.reporting.tables.making import make_table

        table = make_table(self.name, self.results, self.grid)
        for path in self.output:
            write_table(table, path)


class Compare(Command):
    """Compare the measured numbers with those in the RiFT paper."""

    stage = "compare"

    results: Path = Field(description="Folder of the experiment (results/NAME).")
    output: Output[tuple[Path, ...]] = Field(
        (), description="Output files in addition to the terminal: .csv, .md, .tex or .html."
    )

    def run(self) -> None:
        from rift.reporting.formats import markdown, write_table
        from rift.reporting.tables.reference import compare

        table = compare(self.results)
        for path in self.output:
            write_table(table, path)
        print(markdown(table), end="")


class Figure(Command):
    """Draw a figure from the runs of one grid cell; the ending of an output selects its format."""

    stage = "figure"

    name: CliPositionalArg[FigureName] = Field(
        description=f"Name of the figure: {', '.join(get_args(FigureName))}."
    )
    results: Path = Field(description="Folder of the experiment (results/NAME).")
    grid: Grid
    output: Output[tuple[Path, ...]] = Field(
        min_length=1, description="Output files: .png or .pdf."
    )

    def run(self) -> None:
        from rift.reporting.figures.drawing import draw, save_figure

        figure = draw(self.name, self.results, self.grid)
        for path in self.output:
            save_figure(figure, path)


class Overview(Command):
    """Write the first page of a report: the runs, the result, the main table and main figure."""

    stage = "overview"

    results: Path = Field(description="Folder of the experiment (results/NAME).")
    grid: Grid
    output: Output[Path] = Field(description="Output: the page (.html).")

    def run(self) -> None:
        from rift.reporting.overview import write_overview

        write_overview(self.results, self.grid, self.output)
