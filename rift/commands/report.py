"""Reporting: ``rift table``, ``rift compare``, ``rift figure`` and ``rift overview``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field
from pydantic_settings import CliPositionalArg

from rift import artifacts
from rift.commands.command import Command
from rift.commands.roles import JsonOutput, Neutral, Output
from rift.config import FigureName, Grid, TableName

Folder = Annotated[Neutral[Path], Field(description="Folder of the experiment (results/NAME).")]


class _Report(Command):
    """The base class of commands that show results, in files without a place for provenance."""

    results: Folder
    grid: Grid
    lineage: JsonOutput[Path | None] = Field(
        None,
        description="Output: the lineage (.lineage.json): digests of the outputs, and of the"
        " artifacts that they show. rift show reads it if it is beside the outputs and has their"
        " name.",
    )

    @contextmanager
    def recorded(self, outputs: Sequence[Path]) -> Iterator[None]:
        """Write the lineage of the outputs at the end, from all artifacts read meanwhile."""
        from rift.lineage.outputs import write_lineage

        with artifacts.recording_reads() as read:
            yield
        if self.lineage is not None:
            write_lineage(self.lineage, outputs, self.results, read, self.provenance())


class Table(_Report):
    """Make a table from evaluated runs; the ending of each output selects its format."""

    stage = "table"

    name: CliPositionalArg[TableName] = Field(
        description=f"Name of the table: {', '.join(get_args(TableName))}."
    )
    output: Output[tuple[Path, ...]] = Field(
        min_length=1, description="Output files: .csv, .md, .tex or .html."
    )

    def run(self) -> None:
        from rift.reporting.formats import write_table
        from rift.reporting.tables.making import make_table

        with self.recorded(self.output):
            table = make_table(self.name, self.results, self.grid)
            for path in self.output:
                write_table(table, path)


class Compare(Command):
    """Compare the measured numbers with those in the RiFT paper."""

    stage = "compare"

    results: Folder
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


class Figure(_Report):
    """Draw a figure from the runs of one grid cell; the ending of an output selects its format."""

    stage = "figure"

    name: CliPositionalArg[FigureName] = Field(
        description=f"Name of the figure: {', '.join(get_args(FigureName))}."
    )
    output: Output[tuple[Path, ...]] = Field(
        min_length=1, description="Output files: .png or .pdf."
    )

    def run(self) -> None:
        from rift.reporting.figures.drawing import draw, save_figure

        with self.recorded(self.output):
            figure = draw(self.name, self.results, self.grid)
            for path in self.output:
                save_figure(figure, path)


class Overview(_Report):
    """Write the first page of a report: the runs, the result, the main table and main figure."""

    stage = "overview"

    output: Output[Path] = Field(description="Output: the page (.html).")

    def run(self) -> None:
        from rift.reporting.overview import write_overview

        with self.recorded([self.output]):
            write_overview(self.results, self.grid, self.output)
