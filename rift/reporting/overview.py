"""The first page of a report: main finding, parts of the grid, main table and main figure."""

import base64
import math
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import pandas as pd
from markupsafe import Markup

from rift import layout
from rift.artifacts import write_text
from rift.config import Grid
from rift.config.transfer import BASELINES_OF_METHODS
from rift.errors import RiftError
from rift.layout import TO, Cell
from rift.reporting import pages
from rift.reporting.figures import interpolation
from rift.reporting.figures.drawing import draw, render
from rift.reporting.formats import html_part
from rift.reporting.outcomes import METRICS
from rift.reporting.results import Results, cells
from rift.reporting.tables.making import make_table
from rift.reporting.tables.table import BASE, LEVEL, is_distinguishable
from rift.reporting.texts import between, listed, name_of, signed
from rift.statistics import Delta, least_distinguishable


def overview(folder: Path, grid: Grid) -> str:
    """Return the page as HTML without references to other files.

    The body of the page can be part of another page.

    Raises:
        RiftError: an artifact of the main table is missing or damaged.
    """
    table = make_table("main", folder, grid)
    results = Results(folder, grid)
    drawn = [cell for cell in cells(grid) if interpolation.can_be_drawn(results, cell)]
    choices = [(name_of(cell), text) for cell in cells(grid) if (text := choice(results, cell))]
    pictures = [(name_of(cell), _picture(folder, grid.only(cell))) for cell in drawn]
    return pages.render(
        "overview.html",
        name=folder.resolve().name,
        style=pages.part("style.css", "overview.css"),
        finding=finding(table.numbers),
        transfers=_transfers(folder, grid),
        choices=choices,
        run=list(_experiment(grid)),
        table=table,
        body=Markup(html_part(table, sortable=False)),
        pictures=pictures,
    )


def write_overview(folder: Path, grid: Grid, path: Path) -> None:
    """Write the overview to a file.

    Raises:
        RiftError: as ``overview``; or ``path`` does not end in .html or cannot be written.
    """
    if path.suffix != ".html":
        ending = path.suffix or "a file without an ending"
        raise RiftError(f"{path}: the overview is written as .html, not {ending}")
    write_text(path, overview(folder, grid))


def finding(numbers: pd.DataFrame) -> str:
    """Return a summary of the changes that RiFT made, with their uncertainty.

    Args:
        numbers: numbers of the main table. Only the differences of the variant ``rift`` count.
    """
    known = numbers["delta_low"].notna() if "delta_low" in numbers else False
    rows = numbers[(numbers["variant"] == "rift") & known]
    by_cell = list(rows.groupby(list(Cell._fields), sort=False))
    if not by_cell:
        return "There is no finding yet: RiFT and its base have not both been evaluated."

    changes = _changes(rows)
    if len(by_cell) == 1:
        each = _joined([f"{change.name} by {change.text}" for change in changes])
        verdict = f"{_verdict(changes)}{_limit(rows)}"
        return f"On {_place(by_cell[0][0])}, RiFT changed {each}. {verdict}"
    counts = "; ".join(filter(None, (_counted(changes, name) for name in METRICS.values())))
    return (
        f"Over {len(by_cell)} combinations of data set, architecture and regime, RiFT changed"
        f" {counts}."
    )


def transfer_findings(numbers: pd.DataFrame) -> list[str]:
    """Return what TWINS changed against its baseline, with the uncertainty, by transfer and method.

    Args:
        numbers: numbers of the table of transfers. Only the rows of transferred bases count.
    """
    known = numbers["delta_low"].notna() if "delta_low" in numbers else False
    rows = numbers[(numbers["variant"] == BASE) & known]
    sentences: list[str] = []
    for names, found in rows.groupby(list(Cell._fields), sort=False):
        dataset, architecture, method = map(str, cast("tuple[str, ...]", names))
        (source, target), changes = dataset.split(TO), _changes(found)
        each = _joined([f"{change.name} by {change.text}" for change in changes])
        sentences.append(
            f"From {source} to {target} with {architecture}, {method} instead of"
            f" {BASELINES_OF_METHODS[method]} changed {each}. {_verdict(changes)}"
        )
    return sentences


def _transfers(folder: Path, grid: Grid) -> list[str]:
    if not grid.transfers:
        return []
    return transfer_findings(make_table("transfer", folder, grid).numbers)


def choice(results: Results, cell: Cell) -> str:
    """Return which module RiFT fine-tuned, in how many seeds, and which α was selected.

    The text is empty if the cell has no selected point of RiFT.

    Raises:
        RiftError: an artifact is damaged.
    """
    if "rift" not in results.grid.scopes:
        return ""
    found = results.with_files(cell, layout.selection("rift")).with_fine_tuning(cell, "rift")
    seeds = found.grid.seeds
    if not seeds:
        return ""
    modules = [listed(names) for names in found.fine_tuned_modules(cell, "rift")]
    alphas = [float(point["alpha"]) for point in found.selections(cell, "rift")]
    parts = []
    for module in dict.fromkeys(modules):
        own = [alpha for name, alpha in zip(modules, alphas, strict=True) if name == module]
        where = f" in {len(own)} of {len(seeds)} seeds" if len(seeds) > 1 else ""
        values = [f"{alpha:g}" for alpha in (own if len(set(own)) > 1 else own[:1])]
        parts.append(f"{module}{where}, at α = {_joined(values)}")
    text = f"RiFT chose {'; '.join(parts)}."
    if 0 in alphas:
        text += " α = 0 is the base: no point that is robust enough was more accurate."
    return text


class Change(NamedTuple):
    """A difference from the base in one metric.

    Attributes:
        name: name of the metric.
        delta: the difference.
        p: p of the exact test over the same images; NaN where there is no test.
    """

    name: str
    delta: Delta
    p: float

    @property
    def is_sure(self) -> bool:
        """Return whether it is distinguishable from zero, as an asterisk in a table shows."""
        return is_distinguishable(self.delta, self.p)

    @property
    def text(self) -> str:
        """Return the difference with its interval."""
        return f"{signed(self.delta.mean)} points {between(self.delta.low, self.delta.high)}"


def _place(cell: Hashable) -> str:
    dataset, architecture, regime = cell if isinstance(cell, tuple) else (cell, "", "")
    return f"{dataset} with {architecture} ({regime})"


def _changes(rows: pd.DataFrame) -> list[Change]:
    return [
        Change(
            name,
            Delta(row["delta_mean"], row["delta_low"], row["delta_high"]),
            row.get("p", math.nan),
        )
        for metric, name in METRICS.items()
        for row in rows[rows["metric"] == metric].to_dict("records")
    ]


def _verdict(changes: list[Change]) -> str:
    """Return which of the differences are distinguishable from chance."""
    include_zero = [change.name for change in changes if not change.delta.excludes_zero]
    if len(include_zero) == len(changes):
        subject = "Every interval includes" if len(changes) > 1 else "The interval includes"
        return f"{subject} zero, so the whole change may be chance."

    sure = [change for change in changes if change.is_sure]
    sentences = [
        f"{_joined(names)} {verb} by more than chance."
        for verb, names in (
            ("rose", [change.name for change in sure if change.delta.mean > 0]),
            ("fell", [change.name for change in sure if change.delta.mean < 0]),
        )
        if names
    ]
    if include_zero:
        subject = "The interval of" if len(include_zero) == 1 else "The intervals of"
        verb = "includes" if len(include_zero) == 1 else "include"
        sentences.append(f"{subject} {_joined(include_zero)} {verb} zero: this may be chance.")
    unconfirmed = [
        f"{change.name} (p = {change.p:.2g})"
        for change in changes
        if change.delta.excludes_zero and not change.is_sure
    ]
    if unconfirmed:
        sentences.append(f"An exact test does not confirm {_joined(unconfirmed)}.")
    return " ".join(sentences)


def _limit(rows: pd.DataFrame) -> str:
    """Return the smallest distinguishable change of Std, if that of RiFT is not distinguishable."""
    for row in rows[rows["metric"] == "std"].to_dict("records"):
        (change,) = _changes(pd.DataFrame([row]))
        if not change.is_sure:
            images, seeds = int(row["images"]), int(row["seeds"])
            least = least_distinguishable(images, seeds, LEVEL)
            several = "a seed" if seeds == 1 else f"{seeds} seeds"
            return (
                f" With {images:,} test images and {several}, no change of {change.name} below"
                f" {least:.2g} points can be distinguished from chance."
            )
    return ""


def _counted(changes: list[Change], name: str) -> str:
    """Return the mean difference in a metric, and how many differences are sure."""
    deltas = [change.delta for change in changes if change.name == name]
    if not deltas:
        return ""
    sure = [change.delta.mean for change in changes if change.name == name and change.is_sure]
    rose, fell = sum(mean > 0 for mean in sure), sum(mean < 0 for mean in sure)
    mean = signed(sum(delta.mean for delta in deltas) / len(deltas))
    return (
        f"{name} by {mean} points on average (rose in {rose}, fell in {fell}, not distinguishable"
        f" from zero in {len(deltas) - len(sure)})"
    )


def _joined(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _experiment(grid: Grid) -> Iterator[tuple[str, str]]:
    """Yield the parts of the grid with their names."""
    yield "Data sets", listed(grid.datasets)
    yield "Architectures", listed(grid.architectures)
    yield "Training regimes", listed(grid.regimes)
    if grid.transfers:
        yield "Transfers", f"{listed(grid.transfers)}, by {listed(grid.methods)}"
    yield "Seeds", listed(grid.seeds)
    yield "Fine-tuned", listed(grid.scopes)
    yield "AutoAttack", f"on {listed(grid.autoattack)}" if grid.autoattack else "not run"


def _picture(folder: Path, grid: Grid) -> str:
    return base64.b64encode(render(draw("interpolation", folder, grid), ".png")).decode()
