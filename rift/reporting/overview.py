"""The first page of a report: what was run, what came out in a sentence, the main table and the main figure."""

import base64
import math
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from rift.artifacts import write_text
from rift.config import Grid
from rift.errors import RiftError
from rift.reporting import figures
from rift.reporting.figures import interpolation
from rift.reporting.formats import STYLE, html_part
from rift.reporting.results import METRICS, Cell, Results, cells
from rift.reporting.tables import TABLES
from rift.reporting.tables.table import is_told_from_zero, signed
from rift.statistics import Delta

PAGE = Environment(autoescape=True).from_string(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Overview of {{ name }}</title>
<style>{{ style }}
.rift dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .87rem; max-width: 55rem; }
.rift dt { color: #555; }
.rift dd { margin: 0; }
.rift figure { margin: 1rem 0; max-width: 55rem; }
.rift figure img { width: 100%; margin: 0; }
.rift figcaption { color: #555; font-size: .87rem; }
.rift .finding { font-size: 1.05rem; border-left: 4px solid #0072B2; padding-left: .8rem; }
</style>
</head>
<body>
<div class="rift" id="rift-overview">
<h1>{{ name }}: what came out</h1>
<p class="finding">{{ finding }}</p>
<dl>
{% for term, text in run %}<dt>{{ term }}</dt><dd>{{ text }}</dd>
{% endfor %}</dl>
<h1>{{ table.title }}</h1>
<p>{{ table.caption }}</p>
{{ body }}{% for title, picture in pictures %}{% if loop.index == 2 %}<details><summary>The same figure of \
{{ pictures | length - 1 }} more</summary>
{% endif %}<figure>
<img alt="Interpolation between base and fine-tuned weights: {{ title }}" src="data:image/png;base64,{{ picture }}">
<figcaption>{{ title }}: what fine-tuning changes on the selection split, from the base (black dot) to the fine-tuned
weights; a star is the most accurate point of a seed that does not lose more robustness than is allowed (grey).</figcaption>
</figure>
{% if loop.last and loop.length > 1 %}</details>
{% endif %}{% endfor %}</div>
</body>
</html>
"""
)


def overview(folder: Path, grid: Grid) -> str:
    """Write the page as HTML that stands on its own, and whose body can be put into another page.

    Raises:
        RiftError: an artifact that the main table is made of is missing or damaged.
    """
    table = TABLES["main"](folder, grid)
    results = Results(folder, grid)
    drawn = [cell for cell in cells(grid) if interpolation.can_be_drawn(results, cell)]
    pictures = [(", ".join(cell), _picture(folder, grid.only(**cell._asdict()))) for cell in drawn]
    return PAGE.render(
        name=folder.resolve().name,
        style=Markup(STYLE),
        finding=finding(table.numbers),
        run=list(_run(grid)),
        table=table,
        body=Markup(html_part(table, sortable=False)),
        pictures=pictures,
    )


def write_overview(folder: Path, grid: Grid, path: Path) -> None:
    """Write the overview to a file.

    Raises:
        RiftError: as ``overview``; or it is no .html, or cannot be written.
    """
    if path.suffix != ".html":
        raise RiftError(f"{path}: the overview is written as .html, not {path.suffix or 'without an ending'}")
    write_text(path, overview(folder, grid))


def finding(numbers: pd.DataFrame) -> str:
    """Say in a sentence what RiFT changed, as honestly as the intervals allow.

    Args:
        numbers: those of the main table; of its rows the differences of the variant rift count.
    """
    known = numbers["delta_low"].notna() if "delta_low" in numbers else False
    rows = numbers[(numbers["variant"] == "rift") & known]
    found = list(rows.groupby(list(Cell._fields), sort=False))
    if not found:
        return "Nothing can be said of what RiFT changed: it has not been evaluated beside its base."
    changes = _changes(rows)
    if len(found) == 1:
        return f"On {_where(found[0][0])}, RiFT changed {_each(changes)}; {_verdict(changes)}."
    said = "; ".join(filter(None, (_counted(changes, name) for name in METRICS.values())))
    return f"Over {len(found)} combinations of data set, architecture and regime, RiFT changed {said}."


def _where(cell: Hashable) -> str:
    dataset, architecture, regime = cell if isinstance(cell, tuple) else (cell, "", "")
    return f"{dataset} with {architecture} ({regime})"


class Change(NamedTuple):
    """A difference from the base in one metric, with p of the exact test over the same images where there is one, else NaN."""

    name: str
    delta: Delta
    p: float

    @property
    def is_sure(self) -> bool:
        """Whether it can be told from zero, as the asterisk of a table has it."""
        return is_told_from_zero(self.delta, self.p)


def _changes(rows: pd.DataFrame) -> list[Change]:
    return [
        Change(name, Delta(row["delta_mean"], row["delta_low"], row["delta_high"]), row.get("p", math.nan))
        for metric, name in METRICS.items()
        for row in rows[rows["metric"] == metric].to_dict("records")
    ]


def _each(changes: list[Change]) -> str:
    return _listed([f"{name} by {signed(d.mean)} points [{signed(d.low)}, {signed(d.high)}]" for name, d, _ in changes])


def _verdict(changes: list[Change]) -> str:
    """Say which of the differences can be told from chance."""
    sure = [change for change in changes if change.is_sure]
    hold = [change.name for change in changes if not change.delta.leaves_out_zero]
    weak = [f"{c.name} (p = {c.p:.2g})" for c in changes if c.delta.leaves_out_zero and not c.is_sure]
    if len(hold) == len(changes):
        return f"{'every' if len(hold) > 1 else 'the'} interval holds zero, so that all of it may be chance"
    parts = [
        f"{_listed(names)} {verb} by more than chance"
        for verb, names in (
            ("rose", [change.name for change in sure if change.delta.mean > 0]),
            ("fell", [change.name for change in sure if change.delta.mean < 0]),
        )
        if names
    ]
    if hold:
        one = len(hold) == 1
        parts.append(f"the interval{'' if one else 's'} of {_listed(hold)} hold{'s' if one else ''} zero")
    if weak:
        parts.append(f"an exact test does not bear out {_listed(weak)}")
    return ", ".join(parts) + (", so that this may be chance" if hold or weak else "")


def _counted(changes: list[Change], name: str) -> str:
    """Count the differences of one metric by what can be told of them."""
    deltas = [change.delta for change in changes if change.name == name]
    if not deltas:
        return ""
    sure = [change.delta.mean for change in changes if change.name == name and change.is_sure]
    rose, fell = sum(mean > 0 for mean in sure), sum(mean < 0 for mean in sure)
    mean, unsure = signed(sum(delta.mean for delta in deltas) / len(deltas)), len(deltas) - len(sure)
    return f"{name} by {mean} points on average (rose in {rose}, fell in {fell}, not told from zero in {unsure})"


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _run(grid: Grid) -> Iterator[tuple[str, str]]:
    """What was run, on what."""
    yield "Data sets", ", ".join(grid.datasets)
    yield "Architectures", ", ".join(grid.architectures)
    yield "Training regimes", ", ".join(grid.regimes)
    yield "Seeds", ", ".join(map(str, grid.seeds))
    yield "Fine-tuned", ", ".join(grid.scopes)
    yield "AutoAttack", f"on {', '.join(grid.autoattack)}" if grid.autoattack else "not run"


def _picture(folder: Path, grid: Grid) -> str:
    return base64.b64encode(figures.render(figures.draw("interpolation", folder, grid), ".png")).decode()
