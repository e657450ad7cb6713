"""Write a table in the format that the file's ending asks for."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from jinja2 import DictLoader, Environment
from markupsafe import Markup

from rift.artifacts import write_text
from rift.errors import RiftError
from rift.reporting.tables import DELTA, Table

LATEX = {
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "−": "$-$",
    "×": r"$\times$",
    **{letter: rf"\{letter}" for letter in "&#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "÷": r"$\div$",
    "–": "--",
    "%": r"\%",
    "_": r"\_",
}

# Of everything that shows a table; scoped, since Snakemake's report has styles of its own that a table stands amidst.
STYLE = """
.rift { font: 15px/1.45 system-ui, sans-serif; color: #222; }
.rift h1 { font-size: 1.25rem; font-weight: 600; margin: 1rem 0 .25rem; }
.rift p, .rift ul { max-width: 55rem; }
.rift .wide { overflow-x: auto; }
.rift table { font-size: .87rem; border-collapse: collapse; margin: 1rem 0; width: auto; }
.rift table { border-top: 2px solid #222; border-bottom: 2px solid #222; }
.rift th, .rift td { padding: .3rem .55rem; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.rift thead tr:last-child th { border-bottom: 1px solid #222; }
.rift thead th { font-weight: 600; }
.rift thead th.head { text-align: left; }
.rift thead th[colspan] { text-align: center; }
.rift thead button { all: unset; cursor: pointer; }
.rift thead button:hover { text-decoration: underline; }
.rift thead button:focus-visible { outline: 2px solid #0072B2; }
.rift thead button::after { content: "\\2195"; color: #999; padding-left: .3em; }
.rift thead [aria-sort=ascending] button::after { content: "\\2191"; color: #222; }
.rift thead [aria-sort=descending] button::after { content: "\\2193"; color: #222; }
.rift tbody th { font-weight: 400; text-align: left; vertical-align: top; }
.rift tbody tr.first th, .rift tbody tr.first td { border-top: 1px solid #bbb; }
.rift ul { color: #555; font-size: .87rem; list-style: disc; padding-left: 1.1rem; }
"""

# A click on a heading sorts by its column, from the largest; another turns that round, a third puts back the first order. A row
# of differences stays below the row that it belongs to, and headings that stood for several rows stand before each.
SORT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], headings = [...table.tHead.rows].at(-1).cells, first = body.innerHTML;
  const number = text => parseFloat(text.replace("\\u2212", "-").replaceAll(",", ""));
  const sort = (column, direction) => {
    body.innerHTML = first;
    for (const heading of headings) heading.removeAttribute("aria-sort");
    if (!direction) return;
    headings[column].setAttribute("aria-sort", direction < 0 ? "descending" : "ascending");
    const units = [];
    for (const row of [...body.rows]) {
      const groups = JSON.parse(row.dataset.groups);
      row.querySelectorAll("th.group").forEach(cell => cell.remove());
      if (!units.length || !("difference" in row.dataset)) {
        const text = [...groups, ...[...row.cells].map(cell => cell.textContent)][column];
        units.push({rows: [], groups, text, number: number(text), missing: !/[\\p{L}\\d]/u.test(text)});
      }
      units.at(-1).rows.push(row);
    }
    const numeric = units.some(unit => !isNaN(unit.number)) && units.every(unit => unit.missing || !isNaN(unit.number));
    units.sort((a, b) => a.missing - b.missing || direction * (
      numeric ? a.number - b.number || 0 : a.text.localeCompare(b.text, "en", {numeric: true})));
    for (const {rows, groups} of units) {
      rows[0].classList.add("first");
      for (const text of [...groups].reverse()) {
        const cell = document.createElement("th");
        cell.className = "group";
        cell.rowSpan = rows.length;
        cell.textContent = text;
        rows[0].prepend(cell);
      }
      rows.slice(1).forEach(row => row.classList.remove("first"));
      body.append(...rows);
    }
  };
  [...headings].forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const was = heading.getAttribute("aria-sort");
      sort(column, was === null ? -1 : was === "descending" ? 1 : 0);
    });
  });
}
"""

_TEMPLATES = Environment(
    autoescape=True,
    loader=DictLoader(
        {
            "table": """<div class="wide">
<table class="sortable">
<thead>
{% for level in header %}{% set last = loop.last %}<tr>
{% for text, width in level -%}
<th{% if loop.index <= heads %} class="head"{% endif %}{% if width > 1 %} colspan="{{ width }}"{% endif %}>
{%- if last and sortable %}<button type="button">{{ text }}</button>{% else %}{{ text }}{% endif %}</th>
{% endfor %}</tr>
{% endfor %}</thead>
<tbody>
{% for row in body %}<tr{% if row.first %} class="first"{% endif %} data-groups="{{ row.groups }}"
{%- if row.difference %} data-difference{% endif %}>
{% for text, height in row.merged %}<th class="group"{% if height > 1 %} rowspan="{{ height }}"{% endif %}>{{ text }}</th>
{% endfor %}<th>{{ row.head }}</th>
{% for text in row.cells %}<td>{{ text }}</td>
{% endfor %}</tr>
{% endfor %}</tbody>
</table>
</div>
<ul>
{% for note in table.notes %}<li>{{ note }}</li>
{% endfor %}</ul>
""",
            "page": """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ table.title }}</title>
<style>{{ style }}body { margin: 1.5rem; }</style>
</head>
<body class="rift">
<h1>{{ table.title }}</h1>
<p>{{ table.caption }} A click on a heading sorts.</p>
{{ body }}<script>{{ script }}</script>
</body>
</html>
""",
        }
    ),
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
        hrules=True, multicol_align="c", multirow_align="t", column_format="l" * len(names) + "r" * shown.shape[1]
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
    """A page that stands on its own: no network, and nothing that it needs but a few lines of its own to sort by a click."""
    return _TEMPLATES.get_template("page").render(
        table=table, style=Markup(STYLE), script=Markup(SORT), body=Markup(html_part(table, sortable=True))
    )


def html_part(table: Table, sortable: bool) -> str:
    """The table and its notes, for a page with ``STYLE``, and ``SORT`` below them if it is to be sortable, in ``.rift``."""
    shown = table.shown
    names = [str(name) for name in shown.index.names]
    levels = [shown.columns.get_level_values(level) for level in range(shown.columns.nlevels)]
    header = [[*((name, 1) for name in names), *_runs(levels[-1], merge=False)]]
    if len(levels) > 1:
        header.insert(0, [*(("", 1) for _ in names), *_runs(levels[0], merge=True)])
    # Headings of all levels but the last stand once for all rows that they and those before them are equal in.
    paths = [head if isinstance(head, tuple) else (head,) for head in shown.index]
    body: list[dict[str, object]] = []
    for number, (path, row) in enumerate(zip(paths, shown.to_numpy().tolist(), strict=True)):
        merged = []
        for level in range(1, len(names)):
            if number == 0 or paths[number - 1][:level] != path[:level]:
                height = 1
                while number + height < len(paths) and paths[number + height][:level] == path[:level]:
                    height += 1
                merged.append((path[level - 1], height))
        body.append(
            {
                "first": bool(merged),
                "groups": json.dumps(path[:-1], ensure_ascii=False),
                "merged": merged,
                "head": path[-1],
                "difference": str(path[-1]).startswith(DELTA),
                "cells": row,
            }
        )
    return _TEMPLATES.get_template("table").render(
        table=table, header=header, heads=len(names), body=body, sortable=sortable
    )


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
