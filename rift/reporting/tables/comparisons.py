"""Tables that compare variants of trained networks: their definition and their numbers.

A comparison is between any two pairs of a cell and a variant. ``Comparison`` says which.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pandas as pd

from rift.config import Grid, Scope, Variant
from rift.errors import RiftError
from rift.layout import Cell
from rift.reporting import paper
from rift.reporting.outcomes import METRICS, Metric, Outcomes
from rift.reporting.results import Results, cells
from rift.reporting.tables import notes
from rift.reporting.tables.arrangement import ALPHA, AVERAGE, Arrangement, arranged
from rift.reporting.tables.differences import difference, numbers
from rift.reporting.tables.table import BASE, Row, Table
from rift.statistics import accuracy

CellField = Literal["dataset", "architecture", "regime"]

_COLUMNS = (
    "mean",
    "sd",
    "low",
    "high",
    "seeds",
    "images",
    "delta_mean",
    "delta_low",
    "delta_high",
    "p",
    "gained",
    "lost",
    "distinguishable",
    "published",
    "published_delta",
)


class Subject(NamedTuple):
    """A variant of the runs of a cell."""

    cell: Cell
    variant: Variant


class Entry(NamedTuple):
    """One line of a comparison.

    Attributes:
        label: name of the line for a reader. Equal labels have the same role in every block.
        subject: the variant that the line shows.
        reference: the variant that it is compared with; None for a line without differences.
    """

    label: str
    subject: Subject
    reference: Subject | None = None


@dataclass(frozen=True)
class Comparison:
    """The definition of a table that compares variants.

    Attributes:
        title: title of the table.
        caption: caption of the table.
        entries: the lines of the table, from the grid.
        block: the parts of a cell that all lines of a block share. They are its heading.
        by_dataset: whether data sets are columns. Otherwise they are part of the heading, and the
            selected α has a column.
        reference: description of the references, for the notes.
        paper: whether every block has lines of the paper, even where it prints nothing.
        averages: whether averages over data sets and architectures are added.
        how_trained: function that yields notes on the training; None for no such notes.
        published: note about the published numbers.
        about_paper: further note about the rows of the paper.
    """

    title: str
    caption: str
    entries: Callable[[Grid], Iterable[Entry]]
    block: tuple[CellField, ...] = ("dataset", "architecture", "regime")
    by_dataset: bool = False
    reference: str = "the base"
    paper: bool = False
    averages: bool = False
    how_trained: Callable[[Results], Iterable[str]] | None = None
    published: str = notes.PUBLISHED
    about_paper: str = ""


def with_base(
    variants: Callable[[Cell, Grid], Mapping[str, Variant]],
) -> Callable[[Grid], Iterator[Entry]]:
    """Return the entries of a comparison of variants with the base of the same cell.

    Args:
        variants: the variants of a cell by their labels, the base among them.
    """

    def entries(grid: Grid) -> Iterator[Entry]:
        for cell in cells(grid):
            for label, variant in variants(cell, grid).items():
                reference = None if variant == BASE else Subject(cell, BASE)
                yield Entry(label, Subject(cell, variant), reference)

    return entries


def scopes_with_base(
    scopes: Callable[[Grid], Mapping[str, Scope]],
) -> Callable[[Grid], Iterator[Entry]]:
    """Return the entries of a comparison of those scopes that the grid has with their base."""

    def variants(_: Cell, grid: Grid) -> dict[str, Variant]:
        chosen = {label: scope for label, scope in scopes(grid).items() if scope in grid.scopes}
        return {"base": BASE, **chosen}

    return with_base(variants)


def compare(results: Results, definition: Comparison) -> Table:
    """Make a table from its definition.

    Raises:
        RiftError: nothing that it compares has been evaluated, or an artifact is damaged.
    """
    blocks = _blocks(definition, results.grid)
    entries = [entry for block in blocks for entry in block]
    rows = [row for block in blocks for row in measure(results, block)]
    if not results.folder.is_dir():
        raise RiftError(f"{results.folder}: is no folder; name one with results of rift")
    if all(math.isnan(row["mean"]) for row in rows):
        raise RiftError(
            f"{results.folder}: no run of the grid has been evaluated, so the table would be empty;"
            " run rift evaluate first"
        )

    arrangement = Arrangement(
        definition.block,
        {entry.label: entry.reference is not None for entry in entries},
        [(entry.label, entry.subject.cell) for entry in entries],
        by_dataset=definition.by_dataset,
        paper=definition.paper,
        averages=definition.averages,
        seeds=len(results.grid.seeds),
    )
    averages = _averages(rows, results.grid) if definition.averages else ()
    alphas = {} if definition.by_dataset else _alphas(results, entries)
    shown = arranged(arrangement, [*rows, *averages], alphas)
    return Table(
        definition.title,
        definition.caption,
        shown,
        numbers(rows),
        _notes(results, definition, entries, rows, shown),
    )


def measure(results: Results, entries: Sequence[Entry]) -> Iterator[Row]:
    """Yield all accuracies that were measured or published, with their differences.

    A row has the columns of the numbers. Values that do not exist are NaN.
    """
    for metric in METRICS:
        known: dict[Subject, Outcomes | None] = {}
        for entry in entries:
            for subject in (entry.subject, entry.reference):
                if subject is not None and subject not in known:
                    known[subject] = results.outcomes(*subject, metric)
            published = paper.accuracy(*entry.subject, metric)
            if known[entry.subject] is not None or published is not None:
                yield _row(entry, metric, known, published)


def _row(
    entry: Entry,
    metric: Metric,
    outcomes: Mapping[Subject, Outcomes | None],
    published: float | None,
) -> Row:
    (cell, variant), reference = entry.subject, entry.reference
    row: Row = {**cell._asdict(), "method": entry.label, "variant": variant, "metric": metric}
    if reference is not None and reference != (cell, BASE):
        row["reference"] = f"{reference.cell.name}/{reference.variant}"
    row |= dict.fromkeys(_COLUMNS, math.nan)

    if published is not None:
        row["published"] = published
        before = None if reference is None else paper.accuracy(*reference, metric)
        if before is not None:
            row["published_delta"] = published - before

    measured = outcomes[entry.subject]
    if measured is not None:
        row |= accuracy(measured.array)._asdict()
        base = None if reference is None else outcomes[reference]
        if base is not None:
            row |= difference(base, measured)
    return row


def _blocks(definition: Comparison, grid: Grid) -> list[list[Entry]]:
    """Group the entries by the parts of their cells that a block shares."""
    blocks: dict[tuple[str, ...], list[Entry]] = {}
    for entry in definition.entries(grid):
        shared = tuple(getattr(entry.subject.cell, field) for field in definition.block)
        blocks.setdefault(shared, []).append(entry)
    return list(blocks.values())


def _averages(rows: Iterable[Row], grid: Grid) -> Iterator[Row]:
    """Yield means over architectures, over data sets, and over both, where there are several.

    A mean is omitted unless all of its parts exist. It has no deviation and no interval: these
    would depend on how its parts depend on each other.
    """
    table = pd.DataFrame(rows)
    several = {"architecture": grid.architectures, "dataset": grid.datasets}
    for averaged in (["dataset"], ["architecture"], ["dataset", "architecture"]):
        if any(len(several[column]) == 1 for column in averaged):
            continue
        count = math.prod(len(several[column]) for column in averaged)
        kept = [name for name in Cell._fields if name not in averaged]
        keys = [*kept, "method", "variant", "metric"]
        for key, group in table.groupby(keys, sort=False):
            parts = group[["mean", "delta_mean", "published", "published_delta"]]
            means = parts.mean().where(parts.notna().sum() == count)
            yield {
                **dict.fromkeys(averaged, AVERAGE),
                **dict(zip(keys, key, strict=True)),
                **{str(name): value for name, value in means.items()},
            }


def _alphas(results: Results, entries: Iterable[Entry]) -> dict[tuple[Cell, str], str]:
    """Return the selected α of every entry, seed by seed."""
    alphas: dict[tuple[Cell, str], str] = {}
    for label, (cell, variant), _ in entries:
        choices = [] if variant == BASE else results.selected_points(cell, variant)
        alphas[cell, label] = ", ".join(map(_place, choices))
    return alphas


def _place(choice: Mapping[str, Any]) -> str:
    """Return the selected α, and γ where the sweep has two directions."""
    gamma = f" (γ {choice['gamma']:g})" if "gamma" in choice else ""
    return f"{choice['alpha']:g}{gamma}"


def _notes(
    results: Results,
    definition: Comparison,
    entries: Iterable[Entry],
    rows: Iterable[Row],
    shown: pd.DataFrame,
) -> list[str]:
    compared: dict[Cell, list[Variant]] = {}
    for entry in entries:
        compared.setdefault(entry.subject.cell, []).append(entry.subject.variant)
    published = any(not math.isnan(row["published"]) for row in rows)

    lines: list[str] = []
    if not definition.by_dataset:
        lines.append(
            f"{ALPHA} is the selected point between the base (0) and the fine-tuned weights (1),"
            " for each seed."
        )
    lines += notes.reading(results.grid, definition.reference)
    lines += notes.not_run(results, compared, shown)
    if definition.how_trained is not None:
        lines += definition.how_trained(results)
    if published or definition.paper:
        lines.append(definition.published)
    if published and definition.about_paper:
        lines.append(definition.about_paper)
    return [*lines, *notes.how_measured(results)]
