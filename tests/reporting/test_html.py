"""Pages of tables, as a browser shows them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from rift.reporting.formats import write_table
from rift.reporting.tables.table import DELTA, Table
from tests.browser import CHROMIUM, Browser

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium installed")

# The texts of all rows. A heading of several rows belongs to the first of them.
READ = (
    "[...document.querySelectorAll('tbody tr')].map("
    "row => [...row.cells].map(cell => cell.textContent).join('|'))"
)
CLICK = "document.querySelectorAll('thead tr:last-child button')[{}].click()"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def a_table() -> Table:
    """Return a table of three bases. The method was not run for the last one."""
    rows = {
        ("net, pgd", "AT"): ["9.50 ± 0.10", "conv1", "–"],
        ("net, pgd", "AT + RiFT"): ["11.00 ± 0.20", "conv10", "1,200"],
        ("net, pgd", DELTA): ["+1.50* [+1.00, +2.00]", "", "−3.00"],
        ("net, trades", "AT"): ["10.00 ± 0.30", "conv2", "30"],
        ("net, trades", "AT + RiFT"): ["10.50 ± 0.40", "<b>", "−400"],
        ("net, trades", DELTA): ["+0.50 [−1.00, +2.00]", "", "+7.00"],
        ("net, score", "AT"): ["–", "conv3", "5"],
    }
    index = pd.MultiIndex.from_tuples(rows, names=["Base", "Method"])
    columns = ["Std", "Module", "Parameters"]
    shown = pd.DataFrame(list(rows.values()), index=index, columns=columns)
    return Table("A title", "A caption.", shown, pd.DataFrame({"n": [1]}), ["A note."])


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    """Return a browser that shows the table."""
    write_table(a_table(), tmp_path / "table.html")
    browser.open(tmp_path / "table.html")
    return browser


def column(page: Browser, number: int) -> list[str]:
    """Return the texts of a column, counted from the last one."""
    return [row.split("|")[number] for row in page.run(READ)]


@needs_chromium
def test_a_click_sorts_and_keeps_differences_below_their_rows(page: Browser) -> None:
    first = page.run(READ)
    assert first[:2] == ["net, pgd|AT|9.50 ± 0.10|conv1|–", "AT + RiFT|11.00 ± 0.20|conv10|1,200"]
    page.run(CLICK.format(2))
    assert page.run(READ) == [
        "net, pgd|AT + RiFT|11.00 ± 0.20|conv10|1,200",
        "Δ|+1.50* [+1.00, +2.00]||−3.00",
        "net, trades|AT + RiFT|10.50 ± 0.40|<b>|−400",
        "Δ|+0.50 [−1.00, +2.00]||+7.00",
        "net, trades|AT|10.00 ± 0.30|conv2|30",
        "net, pgd|AT|9.50 ± 0.10|conv1|–",
        "net, score|AT|–|conv3|5",
    ]
    direction = "document.querySelectorAll('thead th')[2].getAttribute('aria-sort')"
    assert page.run(direction) == "descending"

    page.run(CLICK.format(2))
    # The order is reversed, but results that do not exist remain last.
    assert [row.split("|")[0:2] for row in page.run(READ) if DELTA not in row] == [
        ["net, pgd", "AT"],
        ["net, trades", "AT"],
        ["net, trades", "AT + RiFT"],
        ["net, pgd", "AT + RiFT"],
        ["net, score", "AT"],
    ]
    page.run(CLICK.format(2))
    assert page.run(READ) == first
    assert (page.complaints, page.requests) == ([], [])


@needs_chromium
def test_numbers_sort_by_value_and_names_by_the_numbers_in_them(page: Browser) -> None:
    page.run(CLICK.format(4))
    assert column(page, -1) == ["1,200", "−3.00", "30", "5", "−400", "+7.00", "–"]
    page.run(CLICK.format(3))
    page.run(CLICK.format(3))
    assert column(page, -2) == ["<b>", "", "conv1", "conv2", "conv3", "conv10", ""]
    assert (page.complaints, page.requests) == ([], [])


@needs_chromium
def test_the_browser_notices_complaints_and_requests(tmp_path: Path) -> None:
    """Without this, the other tests would prove nothing."""
    script = (
        "console.error('one'); fetch('https://example.org/x');"
        " setTimeout(() => { throw new Error('two') })"
    )
    (tmp_path / "page.html").write_text(f"<script>{script}</script>")
    with Browser(tmp_path / "profile") as browser:
        browser.open(tmp_path / "page.html")
        browser.wait("new Promise(done => setTimeout(() => done(true), 200))")
        assert browser.requests == ["https://example.org/x"]
        complaints = " ".join(browser.complaints)
        assert {"one", "two"} <= set(re.findall("one|two", complaints))
