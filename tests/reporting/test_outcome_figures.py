"""Figures of outcomes and of criticality, computed again from the artifacts."""

import math
from pathlib import Path

import numpy as np
import pytest

from rift import artifacts, layout
from rift.config import FigureName
from rift.errors import RiftError
from rift.layout import Evaluation, Run
from rift.reporting.figures.drawing import draw
from rift.reporting.figures.pareto import Point, front
from rift.statistics import Delta, paired_delta
from tests.reporting.drawn import (
    CORRUPTIONS,
    FLAT,
    RESNET18,
    SEEDS,
    drawn_as,
    grid,
    modules,
    points,
)
from tests.results import linked_copy, outcomes_of, source


@pytest.mark.parametrize(("name", "file"), [("pareto", "adversarial"), ("corruptions", "ood")])
def test_outcomes_of_different_test_sets_are_not_drawn_together(
    name: FigureName, file: Evaluation, figure_results: Path, tmp_path: Path
) -> None:
    part = linked_copy(figure_results, tmp_path, f"runs/**/seed1/evaluation/*/{file}.npz")
    for variant, examples in (("base", "a"), ("rift", "b")):
        path = Path(Run(RESNET18, 1).name) / layout.outcomes(variant, file)
        outcomes = artifacts.read_outcomes(figure_results / path)
        artifacts.write_outcomes(part / path, outcomes, source(examples=examples))
    message = rf"rift/{file}\.npz: cannot be compared with .* examples b instead of a"
    with pytest.raises(RiftError, match=message):
        draw(name, part, grid(seeds=(1,)))


def test_pareto_shows_accuracies_and_intervals_of_all_variants(figure_results: Path) -> None:
    figure = draw("pareto", figure_results, grid())
    assert [axis.get_xlabel() for axis in figure.axes] == [
        "accuracy under PGD (%), 80 images",
        "accuracy under AutoAttack (%), 40 images",
    ]
    for panel, attack in enumerate(("pgd", "autoattack")):
        across, up, place = drawn_as(figure, panel, "rift")
        standard, robust = (
            [outcomes_of(figure_results, RESNET18, SEEDS, v, name) for v in ("base", "rift")]
            for name in ("standard", attack)
        )
        assert points(place).tolist() == [[100 * robust[1].mean(), 100 * standard[1].mean()]]
        for line, column, (before, after) in ((across, 0, robust), (up, 1, standard)):
            delta, base = paired_delta(before, after), 100 * before.mean()
            expected = [base + delta.low, base + delta.high]
            np.testing.assert_allclose(points(line)[:, column], expected)
    assert len(drawn_as(figure, 0, "all-layers")) == 3
    assert not drawn_as(figure, 1, "all-layers")
    assert len(draw("pareto", figure_results, grid(autoattack=())).axes) == 1


def test_no_variant_is_better_than_the_front() -> None:
    rng = np.random.default_rng(0)
    none = Delta(0, 0, 0)
    for _ in range(50):
        known = [
            Point("base", float(a), float(b), none, none, 1) for a, b in rng.integers(0, 6, (8, 2))
        ]
        best = {(point.robust, point.standard) for point in front(known)}
        expected = set()
        for point in known:
            at_least_as_good = {
                (other.robust, other.standard)
                for other in known
                if other.robust >= point.robust and other.standard >= point.standard
            }
            if len(at_least_as_good) == 1:
                expected |= at_least_as_good
        assert best == expected


def test_corruptions_shows_differences_with_intervals_and_which_may_be_chance(
    figure_results: Path,
) -> None:
    right = draw("corruptions", figure_results, grid()).axes[1]
    marks = [line for line in right.lines if line.get_marker() == "D"]
    written = [text.get_text() for text in right.texts]
    base, rift = (
        {
            name: outcomes_of(figure_results, RESNET18, SEEDS, variant, name).mean(axis=1)
            for name in CORRUPTIONS
        }
        for variant in ("base", "rift")
    )
    rows = [(base[name], rift[name]) for name in CORRUPTIONS]
    rows.append((sum(base.values()) / 3, sum(rift.values()) / 3))
    for (before, after), mark, text in zip(rows, marks, written, strict=True):
        expected = 100 * (after.mean() - before.mean())
        assert points(mark)[0, 0] == pytest.approx(expected)
        assert float(text.replace("−", "-")) == pytest.approx(expected, abs=0.006)
    assert expected > 10
    hollow = [mark.get_markerfacecolor() == "white" for mark in marks]
    assert hollow == [False, True, True, False]


def test_every_module_is_named_once_however_many_there_are(figure_results: Path) -> None:
    for architecture, count, named in (("resnet18", 21, [21, 0]), ("resnet34", 104, [52, 52])):
        figure = draw("criticality", figure_results, grid(architecture=architecture))
        labels = [[text.get_text() for text in axis.get_yticklabels()] for axis in figure.axes]
        assert [len(names) for names in labels] == named
        assert labels[0] + labels[1] == modules(count)
        least = drawn_as(figure, 0, "rift")
        assert len(least) == 3
        # The MRC of this module is zero.
        assert {line.get_markerfacecolor() for line in least} == {"white"}
        assert math.isclose(points(least[0])[0, 1], FLAT, abs_tol=0.5)
