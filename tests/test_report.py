"""The report's first page and tables, as a browser shows them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from rift import artifacts
from rift.config import Grid
from rift.errors import RiftError
from rift.reporting import overview
from rift.reporting.formats import write_table
from rift.reporting.tables import DELTA, TABLES, Table
from tests.browser import CHROMIUM, Browser

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def a_table() -> Table:
    """Three bases; of the last, the method was not run."""
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
    shown = pd.DataFrame(list(rows.values()), index=index, columns=["Std", "Module", "Parameters"])
    return Table("A title", "A caption.", shown, pd.DataFrame({"n": [1]}), ["A note."])


# What stands in each row, headings that stand for several rows in the first of them.
READ = "[...document.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent).join('|'))"
CLICK = "document.querySelectorAll('thead tr:last-child button')[{}].click()"


@needs_chromium
def test_a_click_sorts_and_keeps_differences_below_what_they_belong_to(browser: Browser, tmp_path: Path) -> None:
    write_table(a_table(), tmp_path / "table.html")
    browser.open(tmp_path / "table.html")
    first = browser.run(READ)
    assert first[:2] == ["net, pgd|AT|9.50 ± 0.10|conv1|–", "AT + RiFT|11.00 ± 0.20|conv10|1,200"]
    browser.run(CLICK.format(2))
    fallen = [
        "net, pgd|AT + RiFT|11.00 ± 0.20|conv10|1,200",
        "Δ|+1.50* [+1.00, +2.00]||−3.00",
        "net, trades|AT + RiFT|10.50 ± 0.40|<b>|−400",
        "Δ|+0.50 [−1.00, +2.00]||+7.00",
        "net, trades|AT|10.00 ± 0.30|conv2|30",
        "net, pgd|AT|9.50 ± 0.10|conv1|–",
        "net, score|AT|–|conv3|5",
    ]
    assert browser.run(READ) == fallen
    assert browser.run("document.querySelectorAll('thead th')[2].getAttribute('aria-sort')") == "descending"
    browser.run(CLICK.format(2))
    # The other way round, but what was not run stays last.
    assert [row.split("|")[0:2] for row in browser.run(READ) if DELTA not in row] == [
        ["net, pgd", "AT"],
        ["net, trades", "AT"],
        ["net, trades", "AT + RiFT"],
        ["net, pgd", "AT + RiFT"],
        ["net, score", "AT"],
    ]
    browser.run(CLICK.format(2))
    assert browser.run(READ) == first
    browser.run(CLICK.format(4))
    assert [row.split("|")[-1] for row in browser.run(READ)] == ["1,200", "−3.00", "30", "5", "−400", "+7.00", "–"]
    browser.run(CLICK.format(3))
    browser.run(CLICK.format(3))
    assert [row.split("|")[-2] for row in browser.run(READ)] == ["<b>", "", "conv1", "conv2", "conv3", "conv10", ""]
    assert (browser.complaints, browser.requests) == ([], [])


@needs_chromium
def test_the_browser_notices_complaints_and_requests(tmp_path: Path) -> None:
    """Else the other tests would say nothing."""
    page = "<script>console.error('one'); fetch('https://example.org/x'); setTimeout(() => { throw new Error('two') })</script>"
    (tmp_path / "page.html").write_text(page)
    with Browser(tmp_path / "profile") as browser:
        browser.open(tmp_path / "page.html")
        browser.wait("new Promise(done => setTimeout(() => done(true), 200))")
        assert browser.requests == ["https://example.org/x"]
        assert {"one", "two"} <= set(re.findall("one|two", " ".join(browser.complaints)))


def numbers(*changes: tuple[str, str, float, float, float]) -> pd.DataFrame:
    """Differences by regime and metric."""
    rows = [
        {
            "dataset": "digits",
            "architecture": "net",
            "regime": regime,
            "variant": variant,
            "metric": metric,
            "mean": 50.0,
        }
        | ({} if variant == "base" else {"delta_mean": mean, "delta_low": low, "delta_high": high})
        for regime, metric, mean, low, high in changes
        for variant in ("base", "rift")
    ]
    return pd.DataFrame(rows)


def test_the_sentence_says_what_the_intervals_allow() -> None:
    unsure = numbers(("pgd", "std", 0.14, 0, 0.42), ("pgd", "pgd", -0.5, -1, 0.1))
    assert overview.finding(unsure) == (
        "On digits with net (pgd), RiFT changed Std by +0.14 points [+0.00, +0.42] and Adv (PGD) by −0.50 points"
        " [−1.00, +0.10]; every interval holds zero, so that all of it may be chance."
    )
    changes = [("std", 1.5, 1, 2), ("ood", 1.2, 0.9, 1.4), ("pgd", 0.01, -0.2, 0.2), ("autoattack", -1, -2, -0.5)]
    mixed = overview.finding(numbers(*(("pgd", *change) for change in changes)))
    assert mixed.endswith(
        "; Std and OOD rose by more than chance, Adv (AutoAttack) fell by more than chance, the interval of Adv (PGD) holds"
        " zero, so that this may be chance."
    )
    # As in the tables, an interval alone does not do where there is an exact test.
    tested = numbers(*(("pgd", *change) for change in changes)).assign(
        p=lambda rows: rows["metric"].map({"std": 0.2, "pgd": 1})
    )
    assert overview.finding(tested).endswith(
        "; OOD rose by more than chance, Adv (AutoAttack) fell by more than chance, the interval of Adv (PGD) holds zero, an"
        " exact test does not bear out Std (p = 0.2), so that this may be chance."
    )
    several = [("pgd", "std", 1, 0.5, 2), ("trades", "std", 3, -1, 5), ("score", "std", -1, -2, -0.1)]
    assert overview.finding(numbers(*several)) == (
        "Over 3 combinations of data set, architecture and regime, RiFT changed Std by +1.00 points on average (rose in 1, fell"
        " in 1, not told from zero in 1)."
    )
    assert overview.finding(numbers(("pgd", "std", 1, 1, 1)).drop(columns="delta_low")).startswith(
        "Nothing can be said of"
    )


@needs_chromium
def test_the_overview_shows_the_main_table_and_its_figure(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = numbers(("pgd", "std", 1.5, 1, 2))
    monkeypatch.setitem(TABLES, "main", lambda folder, grid: Table(**{**vars(a_table()), "numbers": changes}))
    grid = Grid.model_validate({"datasets": ["digits"], "architectures": ["resnet8"], "seeds": [0], "autoattack": []})
    run = tmp_path / "mine/runs/digits/resnet8/pgd/seed0/rift"
    sweep = {"alpha": [0, 1], "standard_accuracy": [80.0, 82.0], "adversarial_accuracy": [50.0, 49.0]}
    artifacts.write_csv(run / "sweep.csv", pd.DataFrame(sweep), artifacts.provenance({}))
    choice = {"alpha": 1, "selection": "validation", "images": 40, "tolerance": 2}
    artifacts.write_json(run / "selection.json", choice, artifacts.provenance({}))
    overview.write_overview(tmp_path / "mine", grid, tmp_path / "overview.html")
    browser.open(tmp_path / "overview.html")
    text = browser.run("document.body.innerText")
    assert "mine: what came out" in text
    assert "Std rose by more than chance" in text
    assert browser.run(READ)[1] == "AT + RiFT|11.00 ± 0.20|conv10|1,200"
    assert browser.run("[...document.images].map(image => image.complete && image.naturalWidth)") == [1496]
    assert (browser.complaints, browser.requests) == ([], [])
    with pytest.raises(RiftError, match=r"the overview is written as \.html, not \.pdf"):
        overview.write_overview(tmp_path / "mine", grid, tmp_path / "overview.pdf")
