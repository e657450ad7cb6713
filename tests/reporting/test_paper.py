"""The numbers of the paper, and the comparison with them."""

import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rift import artifacts, layout
from rift.config import Scope, Variant
from rift.errors import RiftError
from rift.layout import Cell, Evaluation, Run
from rift.reporting import paper
from rift.reporting.formats import markdown
from rift.reporting.outcomes import METRICS
from rift.reporting.tables.reference import compare
from rift.statistics import wilson
from tests.reporting.test_tables import by
from tests.results import source

RESNET18 = Cell("cifar10", "resnet18", "pgd")


def test_every_number_of_the_paper_can_be_looked_up() -> None:
    """Look up all cells and metrics of the first two tables, and scopes of the other two."""
    datasets = ("cifar10", "cifar100", "tiny-imagenet")
    main = product(datasets, ("resnet18", "resnet34", "wrn-34-10"), ("pgd",))
    others = product(("cifar10", "cifar100"), ("resnet18",), ("trades", "mart", "awp", "score"))
    variants: tuple[Variant, ...] = ("base", "rift")
    for names in (*main, *others):
        found = {
            (variant, metric): paper.accuracy(Cell(*names), variant, metric)
            for variant, metric in product(variants, METRICS)
        }
        missing = {metric for (_, metric), value in found.items() if value is None}
        assert missing == {"autoattack"}, names
        base, rift = ([found[name, metric] or 0 for metric in ("std", "ood")] for name in variants)
        assert all(before < after for before, after in zip(base, rift, strict=True)), names


def test_scopes_of_the_paper_have_their_numbers() -> None:
    robust: dict[Scope, float] = {
        "rift": 53.65,
        "robust-critical": 52.48,
        "all-layers": 52.66,
        "last-layer": 52.75,
        "top2": 52.47,
        "top3": 52.22,
        "top5": 52.35,
    }
    assert {scope: paper.accuracy(RESNET18, scope, "pgd") for scope in robust} == robust
    assert paper.accuracy(Cell("digits", "resnet8", "pgd"), "base", "std") is None


def write_passes(run: Path, variant: str, standard: int, robust: int) -> None:
    """Write outcomes of 10,000 images, the first of which pass."""
    evaluations: dict[str, tuple[Evaluation, int]] = {
        "standard": ("standard", standard),
        "pgd": ("adversarial", robust),
    }
    for name, (evaluation, count) in evaluations.items():
        path = run / layout.outcomes(variant, evaluation)
        artifacts.write_outcomes(path, {name: np.arange(10_000) < count}, source())


def test_numbers_are_compared_with_those_of_the_paper(tmp_path: Path) -> None:
    """Compare as many passes as the paper prints, too few, and outcomes that it does not have."""
    run = tmp_path / Run(RESNET18, 0).name
    write_passes(run, "base", 8146, 5163)
    write_passes(run, "rift", 8346, 5163)
    write_passes(run, "module-conv1", 9000, 5000)
    table = compare(tmp_path)
    numbers = by(table.numbers, "variant", "metric", "is_delta")
    base = numbers["base", "std", False]
    assert (base["mean"], base["published"], base["difference"]) == pytest.approx((81.46, 81.46, 0))
    assert (base["low"], base["high"]) == pytest.approx(wilson(8146, 10_000))
    assert numbers["base", "pgd", False]["difference"] == pytest.approx(51.63 - 53.63)
    delta = numbers["rift", "std", True]
    assert (delta["mean"], delta["published"]) == pytest.approx((2.0, 1.98))
    ends = [100 * stats.binom.ppf(tail, 10_000, 0.02) / 10_000 for tail in (0.025, 0.975)]
    assert [delta["low"], delta["high"]] == pytest.approx(ends, abs=0.02)
    assert {key: row["covered"] for key, row in numbers.items()} == {
        ("base", "std", False): True,
        ("base", "pgd", False): False,
        ("rift", "std", False): True,
        ("rift", "std", True): True,
        ("rift", "pgd", False): False,
        # No image changed, so the interval is empty.
        ("rift", "pgd", True): False,
    }
    assert "covers 3 of 6 published numbers" in table.caption
    assert "| cifar10, resnet18, pgd | base, Std " in markdown(table)


def test_several_seeds_have_the_interval_over_seeds(tmp_path: Path) -> None:
    for seed, standard in ((0, 8146), (3, 8046)):
        write_passes(tmp_path / Run(RESNET18, seed).name, "base", standard, 5163)
    row = by(compare(tmp_path).numbers, "variant", "metric", "is_delta")["base", "std", False]
    # The half width is Student's t with one degree of freedom, times the standard error.
    half = 12.7062 * 0.5
    ends = (80.96 - half, 80.96 + half)
    assert (row["low"], row["high"]) == pytest.approx(ends, abs=1e-3)


def test_results_that_the_paper_does_not_have_are_not_compared(copy: Path, tmp_path: Path) -> None:
    message = "contains no evaluated run that the paper has a number of; it has cifar10"
    with pytest.raises(RiftError, match=message):
        compare(copy)
    with pytest.raises(RiftError, match="nowhere: contains no runs"):
        compare(tmp_path / "nowhere")
    shutil.move(copy / "runs/digits", copy / "runs/kanji")
    with pytest.raises(
        RiftError, match=r"r/runs: 1 problem\n  datasets\.0: 'kanji' is not available"
    ):
        compare(copy)
