"""Formats of tables: CSV, Markdown, LaTeX and HTML."""

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from rift.artifacts import write_text
from rift.errors import RiftError
from rift.reporting import pages
from rift.reporting.tables.table import DELTA, Table

LATEX = {
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "γ": r"$\gamma$",
    "ρ": r"$\rho$",
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


def csv(table: Table) -> str:
    """Return the unrounded numbers as CSV."""
    return table.numbers.to_csv(index=False)


def markdown(table: Table) -> str:
    """Return the table as Markdown."""
    flat = table.shown.copy()
    if isinstance(flat.columns, pd.MultiIndex):
        flat.columns = pd.Index([" ".join(levels) for levels in flat.columns])
    body = flat.reset_index().to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"**{table.title}.** {table.caption}\n\n{body}\n\n{notes}\n"


def latex(table: Table) -> str:
    """Return the table as a float that is no wider than the text of the paper.

    It needs the packages booktabs, multirow and graphicx.
    """

    def escape(text: object) -> str:
        return "".join(LATEX.get(letter, letter) for letter in str(text))

    names = [escape(name) for name in table.shown.index.names]
    shown = table.shown.map(escape).rename(index=escape, columns=escape)
    shown.index.names = [None] * len(names)
    body = shown.style.to_latex(
        hrules=True,
        multicol_align="c",
        multirow_align="t",
        column_format="l" * len(names) + "r" * shown.shape[1],
    )
    # pandas gives the names of the row headings a line of their own: put them into the header.
    head, rest = body.split("\\midrule", 1)
    first, last = head.rstrip().rsplit("\n", 1)
    body = f"{first}\n{' & '.join(names)}{last.removeprefix(' & ')}\n\\midrule{rest}"

    width = "\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi"
    notes = " ".join(map(escape, table.notes))
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{escape(table.caption)}}}\n"
        f"\\resizebox{{{width}}}{{!}}{{%\n{body}}}\n"
        f"\\par\\medskip\\begin{{minipage}}{{\\linewidth}}\\footnotesize {notes}\\end{{minipage}}\n"
        "\\end{table}\n"
    )


def html(table: Table) -> str:
    """Return a page with a sortable table and without references to other files."""
    return pages.render(
        "table_page.html",
        table=table,
        style=pages.part("style.css"),
        script=pages.part("sort.js"),
        body=Markup(html_part(table, sortable=True)),
    )


def html_part(table: Table, sortable: bool) -> str:
    """Return the table and its notes as a part of a page.

    The page needs ``style.css`` and an element of the class ``rift`` around the part.

    Args:
        table: the table.
        sortable: whether headings are buttons; the page needs ``sort.js`` below the part.
    """
    shown = table.shown
    names = [str(name) for name in shown.index.names]
    levels = [shown.columns.get_level_values(level) for level in range(shown.columns.nlevels)]
    header = [[*((name, 1) for name in names), *((str(text), 1) for text in levels[-1])]]
    if len(levels) > 1:
        header.insert(0, [*(("", 1) for _ in names), *_merged(levels[0])])

    paths = [head if isinstance(head, tuple) else (head,) for head in shown.index]
    body = [_html_row(paths, number, row) for number, row in enumerate(shown.to_numpy().tolist())]
    return pages.render(
        "table.html", table=table, header=header, heads=len(names), body=body, sortable=sortable
    )


def _html_row(paths: list[tuple[str, ...]], number: int, row: list[str]) -> dict[str, object]:
    """Return the parts of a row.

    A heading of any level but the last appears once, for all consecutive rows that share it.
    """
    path = paths[number]
    merged: list[tuple[str, int]] = []
    for level in range(1, len(path)):
        if number and paths[number - 1][:level] == path[:level]:
            continue
        height = 1
        while number + height < len(paths) and paths[number + height][:level] == path[:level]:
            height += 1
        merged.append((path[level - 1], height))
    return {
        "first": bool(merged),
        "groups": json.dumps(path[:-1], ensure_ascii=False),
        "merged": merged,
        "head": path[-1],
        "difference": str(path[-1]).startswith(DELTA),
        "cells": row,
    }


def _merged(values: "pd.Index[str]") -> list[tuple[str, int]]:
    """Return every run of equal values as a value and its length."""
    runs = [(value, len(list(equal))) for value, equal in groupby(values)]
    return [(str(value), length) for value, length in runs]


FORMATS: dict[str, Callable[[Table], str]] = {
    ".csv": csv,
    ".md": markdown,
    ".tex": latex,
    ".html": html,
}


def write_table(table: Table, path: Path) -> None:
    """Write a table in the format of the file's ending.

    Raises:
        RiftError: there is no such format, or the file cannot be written.
    """
    if path.suffix not in FORMATS:
        ending = path.suffix or "a file without an ending"
        raise RiftError(f"{path}: tables are written as {', '.join(FORMATS)}, not {ending}")
    write_text(path, FORMATS[path.suffix](table))
