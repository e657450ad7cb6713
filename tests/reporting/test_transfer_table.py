"""The table of transfers: what each row is compared with, and the sentences of the first page."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from rift.config import Grid, Transfer, TransferSettings, Twins
from rift.errors import RiftError
from rift.layout import Cell, Run
from rift.reporting import overview
from rift.reporting.tables.making import make_table
from rift.statistics import paired_delta
from tests.reporting.test_tables import by
from tests.results import RunContent, a_grid, outcomes_of, write_run

PAIR = "imagenet-to-cifar10"
RESNET50 = "timm:resnet50"
METHODS = ("at", "trades", "twins-at", "twins-trades")
GRID = a_grid(
    (), (RESNET50,), scopes=("rift",), transfers=(PAIR,), methods=METHODS, autoattack=("base",)
)
HEADING = f"{PAIR}, {RESNET50}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("transfers"), np.random.default_rng(0)
    for method in METHODS:
        for seed in GRID.seeds:
            content = RunContent(scopes=("rift",), autoattack=("base",))
            write_run(folder, Run(Cell(PAIR, RESNET50, method), seed), content, rng)
    return folder


def outcomes(folder: Path, method: str, variant: str) -> np.ndarray:
    return outcomes_of(folder, Cell(PAIR, RESNET50, method), GRID.seeds, variant, "standard")


def test_twins_is_compared_with_its_baseline_and_rift_with_the_transfer(folder: Path) -> None:
    table = make_table("transfer", folder, GRID)
    numbers = by(table.numbers, "method", "metric")
    lines = [line for method in METHODS for line in (method, f"{method} + rift")]
    assert list(dict.fromkeys(line for line, _ in numbers)) == lines
    references = {
        "twins-at": ("at", "base"),
        "twins-trades": ("trades", "base"),
        **{f"{method} + rift": (method, "base") for method in METHODS},
    }
    for line in lines:
        row = numbers[line, "std"]
        method, _, scope = line.partition(" + ")
        ours = outcomes(folder, method, scope or "base")
        assert row["mean"] == pytest.approx(100 * ours.mean())
        if line not in references:
            assert np.isnan(row["delta_mean"])
            continue
        delta = paired_delta(outcomes(folder, *references[line]), ours)
        assert (row["delta_mean"], row["delta_low"], row["delta_high"]) == pytest.approx(delta)
    # Without the baseline in the grid, there is nothing to compare TWINS with.
    alone = make_table("transfer", folder, GRID.model_copy(update={"methods": ("twins-at",)}))
    first = by(alone.numbers, "method", "metric")["twins-at", "std"]
    assert np.isnan(first["delta_mean"])


def test_published_numbers_are_those_of_trades_and_twins_trades(folder: Path) -> None:
    shown = make_table("transfer", folder, GRID).shown
    paper = shown.loc[f"{HEADING} (paper)"]
    columns = ["Std", "OOD", "Adv (PGD)", "Adv (AutoAttack)"]
    # Xu et al. (ICLR 2024), table 2, CIFAR-10.
    assert {str(line): list(paper.loc[line, columns]) for line in paper.index} == {
        "trades": ["86.33", "–", "56.51", "51.67"],
        "twins-trades": ["86.50", "–", "56.77", "51.73"],
        "Δ": ["+0.17", "–", "+0.26", "+0.06"],
    }


def test_the_first_page_says_what_twins_changed(folder: Path) -> None:
    table = make_table("transfer", folder, GRID)
    sentences = overview.transfer_findings(table.numbers)
    assert [text.split(" changed ")[0] for text in sentences] == [
        f"From imagenet to cifar10 with {RESNET50}, twins-at instead of at",
        f"From imagenet to cifar10 with {RESNET50}, twins-trades instead of trades",
    ]
    row = by(table.numbers, "method", "metric")["twins-at", "std"]
    assert f"Std by {row['delta_mean']:+.2f} points".replace("-", "−") in sentences[0]
    assert "chance" in sentences[0]


def test_a_grid_without_transfers_has_no_such_rows(folder: Path) -> None:
    runs: Grid = a_grid(("digits",))
    with pytest.raises(RiftError, match="no run of the grid is a transfer"):
        make_table("transfer", folder, runs)


def test_notes_say_how_each_method_was_trained(tmp_path: Path) -> None:
    settings = {
        name: section.model_dump(mode="json")
        for name, section in TransferSettings(
            transfer=Transfer(images=5000, epochs=9, enlarge=224), twins=Twins(kl="published")
        )
    }
    content = RunContent(
        scopes=("rift",), autoattack=("base",), stage="transfer", settings=settings
    )
    for method, seed in product(METHODS, GRID.seeds):
        run = Run(Cell(PAIR, RESNET50, method), seed)
        write_run(tmp_path, run, content, np.random.default_rng(0))
    notes = " ".join(make_table("transfer", tmp_path, GRID).notes)
    shared = (
        "trained for 9 epochs of the first 5000 images, learning rate 0.003 ÷10 after 30, 50,"
        " weight decay 0.0002, PGD-10 from a uniform start (Linf, eps 0.03137)"
    )
    last = "images enlarged to 224 pixels by the network."
    twins = "twins frozen_share 0.5, twins frozen_weight 0.3, twins kl published"
    assert f"at (cifar10): {shared}, {last}" in notes
    assert f"twins-at (cifar10): {shared}, {twins}, {last}" in notes
    assert f"twins-trades (cifar10): {shared}, {twins}, trades beta 6, {last}" in notes
