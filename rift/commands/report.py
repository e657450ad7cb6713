"""Reporting: ``rift table``, ``rift compare``, ``rift figure`` and ``rift overview``."""

from pathlib import Path
from typing import get_args

from pydantic import Field
from pydantic_settings import CliPositionalArg

from rift.commands.command import Command, Output
from rift.config import FigureName, Grid, TableName


class Table(Command):
    """Make a table from evaluated runs, in every format that an output's ending asks for."""

    stage = "table"

    name: CliPositionalArg[TableName] = Field(
        description=f"Table: {', '.join(get_args(TableName))}."
    )
    results: Path = Field(description="Folder of the experiment (results/NAME).")
    grid: Grid
    output: Output[tuple[Path, ...]] = Field(
        min_length=1, description="Outputs: .csv, .md, .tex, .html."
    )

    def run(self) -> None:
        from rift.reporting.formats import write_table
        from rift.reporting.tables.making import make_table

        table = make_table(self.name, self.results, self.grid)
        for path in self.output:
            write_table(table, path)


class Compare(Command):
    """Compare what was measured with the numbers that the RiFT paper prints."""

    stage = "compare"

    results: Path = Field(description="Folder of the experiment (results/NAME).")
    output: Output[tuple[Path, ...]] = Field(
        (), description="Outputs besides the terminal: .csv, .md, .tex, .html."
    )

    def run(self) -> None:
        from rift.reporting.formats import markdown, write_table
        from rift.reporting.tables.reference import compare

        table = compare(self.results)
        for path in self.output:
            write_table(table, path)
        print(markdown(table), end="")


class Figure(Command):
    """Draw a figure from the runs of one grid cell, in every format that an output's ending asks for."""

    stage = "figure"

    name: CliPositionalArg[FigureName] = Field(
        description=f"Figure: {', '.join(get_args(FigureName))}."
    )
    results: Path = Field(description="Folder of the experiment (results/NAME).")
    grid: Grid
    output: Output[tuple[Path, ...]] = Field(min_length=1, description="Outputs: .png, .pdf.")

    def run(self) -> None:
        from rift.reporting.figures.drawing import draw, save_figure

        figure = draw(self.name, self.results, self.grid)
        for path in self.output:
            save_figure(figure, path)


class Overview(Command):
    """Write the first page of a report: the runs, the result, the main table and the main figure."""

    stage = "overview"

    results: Path = Field(description="Folder of the experiment (results/NAME).")
    grid: Grid
    output: Output[Path] = Field(description="Output: the page (.html).")

    def run(self) -> None:
        from rift.reporting.overview import write_overview

        write_overview(self.results, self.grid, self.output)
