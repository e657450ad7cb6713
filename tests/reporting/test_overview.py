"""The first page of the report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rift import layout
from rift.errors import RiftError
from rift.layout import Cell, Run
from rift.reporting import overview
from rift.reporting.results import Results
from rift.reporting.tables.making import make_table
from tests.browser import Browser
from tests.reporting.conftest import CELL, ONE_CELL
from tests.reporting.test_html import READ, needs_chromium
from tests.results import RunContent, a_grid, rewrite_json, write_run


def numbers(*changes: tuple[str, str, float, float, float]) -> pd.DataFrame:
    """Return the numbers of a main table from regime, metric, difference and its interval."""
    rows = [
        {
            "dataset": "digits",
            "architecture": "net",
            "regime": regime,
            "variant": variant,
            "metric": metric,
            "mean": 50.0,
            "images": 400,
            "seeds": 3,
        }
        | ({} if variant == "base" else {"delta_mean": mean, "delta_low": low, "delta_high": high})
        for regime, metric, mean, low, high in changes
        for variant in ("base", "rift")
    ]
    return pd.DataFrame(rows)


CHANGES = (
    ("pgd", "std", 1.5, 1, 2),
    ("pgd", "ood", 1.2, 0.9, 1.4),
    ("pgd", "pgd", 0.01, -0.2, 0.2),
    ("pgd", "autoattack", -1, -2, -0.5),
)


def test_intervals_that_include_zero_may_be_chance() -> None:
    unsure = numbers(("pgd", "std", 0.14, 0, 0.42), ("pgd", "pgd", -0.5, -1, 0.1))
    assert overview.finding(unsure) == (
        "On digits with net (pgd), RiFT changed Std by +0.14 points [+0.00, +0.42] and Adv (PGD) by"
        " −0.50 points [−1.00, +0.10]. Every interval includes zero, so the whole change may be"
        " chance. With 400 test images and 3 seeds, no change of Std below 0.5 points can be"
        " distinguished from chance."
    )


def test_the_finding_says_which_metrics_rose_and_fell() -> None:
    assert overview.finding(numbers(*CHANGES)).endswith(
        " Std and OOD rose by more than chance. Adv (AutoAttack) fell by more than chance. The"
        " interval of Adv (PGD) includes zero: this may be chance."
    )


def test_an_exact_test_must_confirm_an_interval() -> None:
    p = {"std": 0.2, "pgd": 1}
    tested = numbers(*CHANGES).assign(p=lambda rows: rows["metric"].map(p))
    assert overview.finding(tested).endswith(
        " OOD rose by more than chance. Adv (AutoAttack) fell by more than chance. The interval of"
        " Adv (PGD) includes zero: this may be chance. An exact test does not confirm Std (p ="
        " 0.2). With 400 test images and 3 seeds, no change of Std below 0.5 points can be"
        " distinguished from chance."
    )


def test_the_finding_of_several_cells_counts_them() -> None:
    several = numbers(
        ("pgd", "std", 1, 0.5, 2), ("trades", "std", 3, -1, 5), ("score", "std", -1, -2, -0.1)
    )
    assert overview.finding(several) == (
        "Over 3 combinations of data set, architecture and regime, RiFT changed Std by +1.00 points"
        " on average (rose in 1, fell in 1, not distinguishable from zero in 1)."
    )


def test_without_differences_there_is_no_finding() -> None:
    unpaired = numbers(("pgd", "std", 1, 1, 1)).drop(columns="delta_low")
    assert overview.finding(unpaired).startswith("There is no finding yet")


def cell_of_three_seeds(
    folder: Path, modules: tuple[int, int, int], alphas: tuple[float, float, float]
) -> Results:
    """Write three seeds whose RiFT fine-tuned these modules, by number, and selected these α."""
    for seed, (module, alpha) in enumerate(zip(modules, alphas, strict=True)):
        run = Run(CELL, seed)
        content = RunContent(scopes=("rift",), robust_module=module)
        write_run(folder, run, content, np.random.default_rng(seed))
        rewrite_json(folder / run.name / layout.selection("rift"), alpha=alpha)
    return Results(folder, a_grid(seeds=(0, 1, 2), scopes=("rift",)))


def test_the_overview_says_which_modules_were_chosen_at_which_alpha(tmp_path: Path) -> None:
    first, second, *_ = RunContent().modules
    same = cell_of_three_seeds(tmp_path / "same", (1, 1, 1), (0.5, 0.2, 0.5))
    assert overview.choice(same, CELL) == (
        f"RiFT chose {second} in 3 of 3 seeds, at α = 0.5, 0.2 and 0.5."
    )
    alone = replace(same, grid=a_grid(seeds=(1,), scopes=("rift",)))
    assert overview.choice(alone, CELL) == f"RiFT chose {second}, at α = 0.2."

    other = cell_of_three_seeds(tmp_path / "other", (1, 0, 1), (0, 1, 0))
    assert overview.choice(other, CELL) == (
        f"RiFT chose {second} in 2 of 3 seeds, at α = 0; {first} in 1 of 3"
        " seeds, at α = 1. α = 0 is the base: no point that is robust enough was more accurate."
    )


def test_the_overview_says_nothing_of_a_choice_that_was_not_made(tmp_path: Path) -> None:
    results = Results(tmp_path, a_grid(scopes=("rift",)))
    assert overview.choice(results, CELL) == ""
    assert overview.choice(replace(results, grid=a_grid(scopes=("top2",))), CELL) == ""


@needs_chromium
@pytest.mark.parametrize("regimes", [("pgd",), ("pgd", "trades")], ids=len)
def test_the_overview_shows_the_main_table_and_its_figures(
    regimes: tuple[str, ...], tmp_path: Path
) -> None:
    grid = a_grid(regimes=regimes, seeds=(0,), scopes=("rift",))
    rng = np.random.default_rng(0)
    for regime in regimes:
        run = Run(Cell("digits", "resnet8", regime), 0)
        write_run(tmp_path / "mine", run, RunContent(scopes=("rift",)), rng)
    overview.write_overview(tmp_path / "mine", grid, tmp_path / "overview.html")

    with Browser(tmp_path / "profile") as browser:
        browser.open(tmp_path / "overview.html")
        text = browser.run("document.body.innerText")
        table = make_table("main", tmp_path / "mine", grid)
        assert "mine: overview" in text
        assert overview.finding(table.numbers) in text
        assert browser.run("document.body.textContent").count("RiFT chose ") == (len(regimes))
        assert browser.run(READ)[1] == "|".join(["AT + RiFT", *table.shown.iloc[1]])
        widths = browser.run("[...document.images].map(image => image.naturalWidth)")
        assert widths == [1496] * len(regimes)
        hidden = browser.run("document.querySelectorAll('details img').length")
        assert hidden == len(regimes) - 1
        # On a phone, the picture scrolls in its frame and keeps labels of a legible size.
        browser.resize(420, 800)
        shown = "document.querySelector('figure img')"
        points = 7 * browser.run(f"{shown}.getBoundingClientRect().width") / (6.8 * 72)
        assert points >= 9.5  # pixels of the smallest text, 7 points on paper
        assert browser.run("document.documentElement.scrollWidth") <= 420
        assert (browser.complaints, browser.requests) == ([], [])


def test_the_overview_is_a_page(tmp_path: Path) -> None:
    with pytest.raises(RiftError, match=r"the overview is written as \.html, not \.pdf"):
        overview.write_overview(tmp_path, ONE_CELL, tmp_path / "overview.pdf")
