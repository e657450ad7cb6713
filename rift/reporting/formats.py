"""Write a table in the format that the file's ending asks for."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from jinja2 import Environment

from rift.artifacts import write_text
from rift.errors import RiftError
from rift.reporting.tables import Table

LATEX = {
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "−": "$-$",
    "×": r"$\times$",
    "÷": r"$\div$",
    "–": "--",
    "%": r"\%",
    "_": r"\_",
}

PAGE = Environment(autoescape=True).from_string(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ table.title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 1.5rem; }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; }
p, ul { max-width: 55rem; }
.wide { overflow-x: auto; }
table { font-size: .87rem; border-collapse: collapse; margin: 1rem 0; }
table { border-top: 2px solid #222; border-bottom: 2px solid #222; }
th, td { padding: .3rem .55rem; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
thead tr:last-child th { border-bottom: 1px solid #222; }
thead th { font-weight: 600; }
thead th.head { text-align: left; }
thead th[colspan] { text-align: center; }
tbody th { font-weight: 400; text-align: left; vertical-align: top; }
tbody tr.first th, tbody tr.first td { border-top: 1px solid #bbb; }
ul { color: #555; font-size: .87rem; padding-left: 1.1rem; }
</style>
</head>
<body>
<h1>{{ table.title }}</h1>
<p>{{ table.caption }}</p>
<div class="wide">
<table>
<thead>
{% for level in header %}<tr>
{% for text, width in level -%}
<th{% if loop.index <= heads %} class="head"{% endif %}{% if width > 1 %} colspan="{{ width }}"{% endif %}>{{ text }}</th>
{% endfor %}</tr>
{% endfor %}</thead>
<tbody>
{% for row in body %}<tr{% if row.first %} class="first"{% endif %}>
{% for text, height in row.heads %}<th{% if height > 1 %} rowspan="{{ height }}"{% endif %}>{{ text }}</th>
{% endfor %}{% for text in row.cells %}<td>{{ text }}</td>
{% endfor %}</tr>
{% endfor %}</tbody>
</table>
</div>
<ul>
{% for note in table.notes %}<li>{{ note }}</li>
{% endfor %}</ul>
</body>
</html>
"""
)


def csv(table: Table) -> str:
    """Numbers for a program: unrounded, a row each."""
    return table.numbers.to_csv(index=False)


def markdown(table: Table) -> str:
    flat = table.shown.copy()
    if isinstance(flat.columns, pd.MultiIndex):
        flat.columns = pd.Index([" ".join(levels) for levels in flat.columns])
    body = flat.reset_index().to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"**{table.title}.** {table.caption}\n\n{body}\n\n{notes}\n"


def latex(table: Table) -> str:
    """A float for a paper, no wider than its text; wants the packages booktabs, multirow and graphicx."""

    def escape(text: object) -> str:
        return "".join(LATEX.get(letter, letter) for letter in str(text))

    names = [escape(name) for name in table.shown.index.names]
    shown = table.shown.map(escape).rename(index=escape, columns=escape)
    shown.index.names = [None] * len(names)
    body = shown.style.to_latex(
        hrules=True, multicol_align="c", multirow_align="t", column_format="ll" + "r" * shown.shape[1]
    )
    # The names of the row headings, into the last line of the header.
    head, rest = body.split("\\midrule", 1)
    first, last = head.rstrip().rsplit("\n", 1)
    body = f"{first}\n{' & '.join(names)}{last.removeprefix(' & ')}\n\\midrule{rest}"
    fitted = f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n{body}}}"
    notes = " ".join(map(escape, table.notes))
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{escape(table.caption)}}}\n{fitted}\n"
        f"\\par\\medskip\\begin{{minipage}}{{\\linewidth}}\\footnotesize {notes}\\end{{minipage}}\n\\end{{table}}\n"
    )


def html(table: Table) -> str:
    """A page that stands on its own: no network, no scripts."""
    shown = table.shown
    names = [str(name) for name in shown.index.names]
    levels = [shown.columns.get_level_values(level) for level in range(shown.columns.nlevels)]
    header = [[*((name, 1) for name in names), *_runs(levels[-1], merge=False)]]
    if len(levels) > 1:
        header.insert(0, [*(("", 1) for _ in names), *_runs(levels[0], merge=True)])
    heights = dict(
        zip(_starts(shown.index.get_level_values(0)), _runs(shown.index.get_level_values(0), merge=True), strict=True)
    )
    body = [
        {
            "first": number in heights,
            "heads": [*([heights[number]] if number in heights else []), (head[-1], 1)],
            "cells": cells,
        }
        for number, (head, cells) in enumerate(zip(shown.index, shown.to_numpy().tolist(), strict=True))
    ]
    return PAGE.render(table=table, header=header, heads=len(names), body=body)


def _runs(values: "pd.Index[str]", merge: bool) -> list[tuple[str, int]]:
    """Values and how often each stands in a row."""
    starts = _starts(values) if merge else list(range(len(values)))
    ends = [*starts[1:], len(values)]
    return [(str(values[start]), end - start) for start, end in zip(starts, ends, strict=True)]


def _starts(values: "pd.Index[str]") -> list[int]:
    return [number for number in range(len(values)) if number == 0 or values[number] != values[number - 1]]


FORMATS: dict[str, Callable[[Table], str]] = {".csv": csv, ".md": markdown, ".tex": latex, ".html": html}


def write_table(table: Table, path: Path) -> None:
    """Write a table.

    Raises:
        RiftError: the ending stands for no format, or the file cannot be written.
    """
    if path.suffix not in FORMATS:
        raise RiftError(f"{path}: tables are written as {', '.join(FORMATS)}, not {path.suffix or 'without an ending'}")
    write_text(path, FORMATS[path.suffix](table))
