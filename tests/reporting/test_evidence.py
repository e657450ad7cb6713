"""The tables of docs/ that name the folder evidence/ are those of its outcomes."""

import re
import shlex
from pathlib import Path

import pytest

from tests.experiment import rift

ROOT = Path(__file__).parents[2]
PAGES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
# A command in an indented block, whose lines may go on after a backslash, and the table below it.
COMMAND = re.compile(
    r"^ {4}rift table (?P<words>(?:.*\\\n)*.*--results evidence/.*(?:\\\n.*)*)\n+"
    r"(?P<table>(?:\|.*\n)+)",
    re.MULTILINE,
)
TABLES = [
    (shlex.split(found["words"].replace("\\\n", " ")), found["table"])
    for page in PAGES
    for found in COMMAND.finditer(page)
]


def cells(table: str) -> list[list[str]]:
    """Return the cells of a Markdown table, without its rule."""
    rows = [
        [cell.strip() for cell in row.strip().strip("|").split("|")] for row in table.splitlines()
    ]
    return [row for row in rows if not set("".join(row)) <= set(":-")]


def test_the_pages_have_tables_of_the_evidence() -> None:
    assert len(TABLES) >= 2


@pytest.mark.parametrize(("words", "table"), TABLES, ids=[words[0] for words, _ in TABLES])
def test_a_table_of_a_page_is_that_of_the_evidence(
    words: list[str], table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    made = tmp_path / "table.md"
    words[words.index("--output") + 1] = str(made)
    rift("table", *words)
    lines = made.read_text(encoding="utf-8").splitlines()
    assert cells("\n".join(line for line in lines if line.startswith("|"))) == cells(table)
