"""Formats of tables: nothing is lost, and nothing breaks TeX or HTML."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import jinja2
import numpy as np
import pandas as pd
import pytest

from rift.config import FigureName, TableName
from rift.errors import RiftError
from rift.reporting.formats import FORMATS, write_table
from rift.reporting.tables.making import make_table
from rift.reporting.tables.table import Table
from tests.reporting.conftest import GRID
from tests.reporting.test_tables import TABLES_OF_RUNS


class Cells(HTMLParser):
    """Reads the texts of all cells, and checks that tags are closed and refer to no other file."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}, "a table needs no network"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th") and data.strip():
            self.texts.append(data)


@pytest.mark.parametrize("name", TABLES_OF_RUNS)
def test_every_format_contains_every_cell(name: TableName, folder: Path, tmp_path: Path) -> None:
    table = make_table(name, folder, GRID)
    paths = {suffix: tmp_path / f"table{suffix}" for suffix in FORMATS}
    for path in paths.values():
        write_table(table, path)
    texts = sorted(table.shown.to_numpy().ravel())
    parser = Cells()
    parser.feed(paths[".html"].read_text())
    assert not parser.open
    for text in filter(None, set(texts)):
        assert parser.texts.count(text) >= texts.count(text)
        assert text in paths[".md"].read_text()
    numbers = pd.read_csv(paths[".csv"])
    pd.testing.assert_frame_equal(numbers, table.numbers, check_dtype=False)
    check_latex(paths[".tex"].read_text(), table)


def check_latex(latex: str, table: Table) -> None:
    """Check what TeX requires: known letters, braces, environments, and the cells of a row."""
    assert latex.isascii()
    # Remove escaped letters, and formulas that consist of one sign.
    plain = re.sub(r"\$(\\[a-zA-Z]+|[-<>])\$", "", re.sub(r"\\[\\&#%_{}$]", "", latex))
    assert not re.search(r"[#_^~\"$]", plain)
    # A percent sign at the end of a line is intended.
    assert not re.search(r"%(?!$)", plain, re.MULTILINE)
    depth = np.cumsum([(letter == "{") - (letter == "}") for letter in plain])
    assert depth.min() >= 0
    assert depth[-1] == 0

    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", latex):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened

    body = latex.split("\\begin{tabular}")[1].split("\\end{tabular}")[0]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert len(rows) == len(table.shown) + table.shown.columns.nlevels
    for row in rows:
        spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        cells = len(re.findall(r"(?<!\\)&", row)) + sum(spans)
        assert cells == table.shown.shape[1] + 1
    assert " & ".join(map(str, table.shown.index.names)) + " & " in latex


NASTY = r"50% of a_b & c#1 {x} $5 ~ ^ \ <x> ± Δ α − × ÷ –"


def nasty() -> Table:
    """Return a table of letters that have a meaning in TeX or HTML."""
    index = pd.MultiIndex.from_tuples([(NASTY, "a"), (NASTY, NASTY)], names=["Base", "Method"])
    shown = pd.DataFrame([[NASTY, "1"], ["2", NASTY]], index=index, columns=["x", NASTY])
    return Table(NASTY, NASTY, shown, pd.DataFrame({"x": [1]}), [NASTY])


def test_special_letters_are_escaped_in_latex_and_html(tmp_path: Path) -> None:
    for suffix in (".tex", ".html"):
        write_table(nasty(), tmp_path / f"table{suffix}")
    check_latex((tmp_path / "table.tex").read_text(), nasty())
    parser = Cells()
    parser.feed((tmp_path / "table.html").read_text())
    assert parser.texts.count(NASTY) >= 3


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX installed")
def test_latex_compiles(folder: Path, tmp_path: Path) -> None:
    """Compile all tables in one document, because TeX starts slowly."""
    tables: dict[str, Table] = {
        "nasty": nasty(),
        **{name: make_table(name, folder, GRID) for name in TABLES_OF_RUNS},
    }
    for name, table in tables.items():
        write_table(table, tmp_path / f"{name}.tex")
    inputs = "".join(rf"\input{{{name}}}\clearpage" for name in tables)
    preamble = r"\documentclass{article}\usepackage{booktabs,multirow,graphicx}"
    document = rf"{preamble}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "paper.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_other_formats_are_refused(folder: Path, tmp_path: Path) -> None:
    message = r"tables are written as \.csv, \.md, \.tex, \.html, not \.xlsx"
    with pytest.raises(RiftError, match=message):
        write_table(make_table("criticality", folder, GRID), tmp_path / "table.xlsx")


@pytest.mark.parametrize(
    ("kind", "names"), [("table", TABLES_OF_RUNS), ("figure", get_args(FigureName))]
)
def test_every_table_and_figure_has_a_caption_in_the_report(
    kind: str, names: tuple[str, ...], repository: Path
) -> None:
    text = (repository / f"workflow/report/{kind}.rst").read_text()
    template = jinja2.Template(text, undefined=jinja2.StrictUndefined)
    for name in names:
        caption: Any = template.render(snakemake={"wildcards": {kind: name}})
        assert caption.strip().endswith(".")
        assert json.dumps(caption)
