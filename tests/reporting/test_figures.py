"""Figures agree with their artifacts and are legible on paper."""

from itertools import combinations, product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from matplotlib.transforms import Bbox
from scipy import stats

from rift import layout
from rift.config import DATASET_FIGURES, TRANSFER_FIGURES, FigureName, NamedScope, Scope, TableName
from rift.errors import RiftError
from rift.layout import Run
from rift.reporting.figures import FIGURES
from rift.reporting.figures.drawing import draw, draw_data, render, save_figure
from rift.reporting.figures.interpolation import ScopeSweep, Sweeps
from rift.reporting.figures.style import COLOURS, DOUBLE, LABELS, MARKERS, SINGLE
from rift.reporting.results import Results
from tests.reporting.drawn import (
    AT,
    RESNET18,
    SCOPES,
    SEEDS,
    TWINS_AT,
    drawn_as,
    grid,
    grid_for,
    hex_of,
    legend_of,
    points,
    texts,
)
from tests.results import a_grid, linked_copy


def test_no_two_scopes_have_the_same_mark_colour_or_name() -> None:
    scopes = {"base", *get_args(NamedScope)}
    for look in (COLOURS, MARKERS, LABELS):
        assert set(look) == scopes
        assert len(set(look.values())) == len(scopes)


def test_every_name_has_a_figure() -> None:
    assert tuple(FIGURES) == get_args(FigureName)


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)], ids=len)
@pytest.mark.parametrize("architecture", ["resnet18", "resnet34"])
@pytest.mark.parametrize("name", get_args(FigureName))
def test_everything_is_legible_at_the_size_of_a_column(
    name: FigureName, architecture: str, seeds: tuple[int, ...], figure_results: Path
) -> None:
    figure = draw(name, figure_results, grid_for(name, seeds, architecture))
    width, height = figure.get_size_inches()
    assert width in (SINGLE, DOUBLE)
    assert height <= 9
    found = texts(figure)
    assert len(found) > 5
    for text, box in found:
        assert float(text.get_fontsize()) >= 6, text
        assert min(box.x0, box.y0) > -0.01, text
        assert box.x1 < width + 0.01, text
        assert box.y1 < height + 0.01, text
    for (one, here), (other, there) in combinations(found, 2):
        # A box is slightly higher than its text.
        both = Bbox.intersection(here, there)
        overlap = 0 if both is None else min(both.width, both.height)
        assert overlap < 0.02, (one.get_text(), other.get_text())


@pytest.mark.parametrize("name", get_args(FigureName))
def test_a_figure_is_drawn_the_same_twice(
    name: FigureName, figure_results: Path, tmp_path: Path
) -> None:
    for suffix, magic in ((".png", b"\x89PNG"), (".pdf", b"%PDF")):
        for copy in ("a", "b"):
            figure = draw(name, figure_results, grid_for(name))
            save_figure(figure, tmp_path / f"{copy}{suffix}")
        content = (tmp_path / f"a{suffix}").read_bytes()
        assert content.startswith(magic)
        assert content == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("name", sorted(set(get_args(FigureName)) - set(DATASET_FIGURES)))
def test_a_figure_needs_no_other_files_than_it_declares(
    name: FigureName, figure_results: Path, tmp_path: Path
) -> None:
    asked = grid_for(name)
    needed = {*layout.figure_files(name, asked.scopes, asked.variants)}
    if "sweep" in layout.figure_needs(name):
        # The fine-tuned file exists before a sweep.
        needed |= {layout.finetuned(scope) for scope in asked.scopes}
    shown = (AT, TWINS_AT) if name in TRANSFER_FIGURES else (RESNET18,)
    for cell, seed, file in product(shown, SEEDS, needed):
        link = tmp_path / Run(cell, seed).name / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(figure_results / Run(cell, seed).name / file)
    complete = render(draw(name, figure_results, asked), ".png")
    assert render(draw(name, tmp_path, asked), ".png") == complete


def test_a_figure_without_declared_needs_needs_all_that_every_run_has() -> None:
    assert set(layout.figure_needs("new")) == set(get_args(layout.Need)) - {"training"}
    files = layout.figure_files("new", scopes=("rift",), variants=("base",))
    assert {layout.CRITICALITY, layout.sweep("rift"), layout.outcomes("base", "ood")} < set(files)
    assert layout.table_needs("new") == layout.figure_needs("new")
    assert set(layout.TABLE_NEEDS) < set(get_args(TableName))
    assert set(layout.FIGURE_NEEDS) == set(get_args(FigureName)) - set(DATASET_FIGURES)


def test_a_figure_is_drawn_from_data_in_memory(figure_results: Path) -> None:
    changes = pd.DataFrame(
        {
            "alpha": [0, 0.5, 1],
            "seed": 7,
            "standard_change": [0, 1.5, 2],
            "adversarial_change": [0, -0.2, -3],
        }
    )
    choice = {"alpha": 0.5, "tolerance": 1, "selection": "validation", "images": 40}
    sweeps = Sweeps([ScopeSweep("rift", changes, {7: choice})], ("rift",), (7,))
    figure = draw_data("interpolation", sweeps, "my network")
    assert figure.get_suptitle() == "my network; seed 7; 40 images of the validation split"
    line, *_ = drawn_as(figure, 0, "rift")
    assert points(line).tolist() == [[0, 0], [-0.2, 1.5], [-3, 2]]

    collected = FIGURES["interpolation"].collect(Results(figure_results, grid()), RESNET18)
    title = ", ".join(RESNET18)
    again = draw_data("interpolation", collected, title)
    assert render(again, ".png") == render(draw("interpolation", figure_results, grid()), ".png")


def sweeps_of(folder: Path, scope: Scope) -> Any:
    """Return changes from the base: seeds × points × (adversarial, standard)."""
    columns = ["adversarial_accuracy", "standard_accuracy"]
    runs = [folder / Run(RESNET18, seed).name / layout.sweep(scope) for seed in SEEDS]
    tables = [pd.read_csv(run, comment="#")[columns].to_numpy() for run in runs]
    return np.stack([table - table[0] for table in tables])


def test_interpolation_shows_mean_changes_bands_choices_and_the_limit(figure_results: Path) -> None:
    figure = draw("interpolation", figure_results, grid())
    changes = sweeps_of(figure_results, "rift")
    mean, star, across, up = drawn_as(figure, 0, "rift")
    np.testing.assert_allclose(points(mean), changes.mean(axis=0))
    selected = changes[:, 1]
    np.testing.assert_allclose(points(star), [selected.mean(axis=0)])
    for cross, column in ((across, 0), (up, 1)):
        values = selected[:, column]
        expected = np.repeat([selected.mean(axis=0)], 2, axis=0)
        expected[:, column] = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        np.testing.assert_allclose(points(cross), expected)

    for panel, column in ((1, 1), (2, 0)):
        bands: Any = [
            part
            for part in figure.axes[panel].collections
            if hex_of(part.get_facecolor()) == COLOURS["rift"]
        ]
        (band,) = bands
        corners = np.asarray(band.get_paths()[0].vertices)
        for alpha, values in zip((0, 0.5, 1), changes[:, :, column].T, strict=True):
            ends = (0, 0)
            if values.any():
                ends = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
            at = corners[corners[:, 0] == alpha, 1]
            assert (at.min(), at.max()) == pytest.approx(ends)
        lines = [line for line in drawn_as(figure, panel, "rift") if line.get_marker() == "*"]
        (marked,) = [points(line)[0] for line in lines]
        assert marked[0] == pytest.approx(0.5, abs=0.1)
        assert marked[1] == pytest.approx(changes[:, 1, column].mean())

    for panel, column in ((0, 0), (2, 1)):
        (limit,) = [line for line in figure.axes[panel].lines if line.get_linestyle() == ":"]
        assert set(points(limit)[:, column]) == {-0.25}


def test_interpolation_of_two_seeds_shows_their_range_and_of_one_no_interval(
    figure_results: Path,
) -> None:
    both = draw("interpolation", figure_results, grid((0, 1)))
    assert "range of both seeds" in legend_of(both)
    selected = sweeps_of(figure_results, "rift")[:2, 1]
    _, _, across, up = drawn_as(both, 0, "rift")
    np.testing.assert_allclose(sorted(points(across)[:, 0]), sorted(selected[:, 0]))
    np.testing.assert_allclose(sorted(points(up)[:, 1]), sorted(selected[:, 1]))

    alone = draw("interpolation", figure_results, grid((0,)))
    assert not [part for axis in alone.axes[1:] for part in axis.collections]
    line, star = drawn_as(alone, 0, "rift")
    np.testing.assert_allclose(points(star)[0], points(line)[1])


def test_interpolation_marks_every_alpha_that_a_seed_selected() -> None:
    rows = pd.DataFrame(
        {
            "alpha": [0, 0.5, 1] * 3,
            "seed": [0] * 3 + [1] * 3 + [2] * 3,
            "standard_change": [0, 1, 2, 0, 2, 4, 0, 3, 1],
            "adversarial_change": [0, -1, -4, 0, -2, 1, 0, -3, -1],
        }
    )
    choices = {
        seed: {"alpha": alpha, "tolerance": 5, "selection": "validation", "images": 40}
        for seed, alpha in enumerate((0.5, 1, 0.5))
    }
    data = Sweeps([ScopeSweep("rift", rows, choices)], ("rift",), (0, 1, 2))
    figure = draw_data("interpolation", data)
    # Mean of the selected points (−1, 1), (1, 4) and (−3, 3), which is not on the line of means.
    assert points(drawn_as(figure, 0, "rift")[1]).tolist() == [[-1, pytest.approx(8 / 3)]]
    stars = [line for line in drawn_as(figure, 1, "rift") if line.get_marker() == "*"]
    # On the line of means: 2 at α = 0.5, and 7/3 at α = 1.
    assert [points(star)[0].tolist() for star in stars] == [[0.5, 2], [1, pytest.approx(7 / 3)]]
    low, high = figure.axes[0].get_ylim()
    half = stats.t.ppf(0.975, 2) * np.std([1, 4, 3], ddof=1) / 3**0.5
    assert low < 8 / 3 - half
    assert high > 8 / 3 + half


def test_results_that_do_not_exist_yet_are_omitted_and_counted(
    figure_results: Path, tmp_path: Path
) -> None:
    part = linked_copy(
        figure_results,
        tmp_path,
        "runs/*/*/*/*/last-layer/*",
        "runs/*/*/*/seed2/all-layers/*",
        "runs/*/*/*/*/evaluation/top5/*",
    )
    swept = legend_of(draw("interpolation", part, grid()))
    assert "last layer" not in swept
    assert "all layers (2 of 3 seeds)" in swept
    assert "last layer" not in legend_of(draw("criticality", part, grid()))
    evaluated = legend_of(draw("pareto", part, grid()))
    assert "5 least critical" not in evaluated
    assert "3 least critical" in evaluated


@pytest.mark.parametrize(
    ("name", "omitted", "message"),
    [
        (
            "interpolation",
            "runs/**/sweep.csv",
            r"seed0/rift/sweep\.csv: does not exist; check the path, or run the stage",
        ),
        ("criticality", "runs/**/criticality.csv", r"seed0/criticality\.csv: does not exist"),
        ("corruptions", "runs/**/ood.npz", r"seed0/evaluation/base/ood\.npz: does not exist"),
        (
            "pareto",
            "runs/**/adversarial.npz",
            r"seed0/evaluation/base/adversarial\.npz: does not exist",
        ),
        ("training", "runs/**/training.csv", r"seed0/training\.csv: does not exist"),
        (
            "transfer-training",
            "transfers/*/*/at/*/training.csv",
            r"/at/seed0/training\.csv: does not exist",
        ),
        (
            "transfer-mechanism",
            "transfers/*/*/twins-at/*/training.csv",
            r"/twins-at/seed0/training\.csv: does not exist",
        ),
        (
            "transfer-pareto",
            "transfers/*/*/at/*/evaluation/base/adversarial.npz",
            r"/at/seed0/evaluation/base/adversarial\.npz: does not exist",
        ),
        (
            "contact-sheet",
            "data/digits/corrupted/*.npy",
            "data/digits/corrupted: contains no corrupted images",
        ),
    ],
)
def test_a_figure_without_its_results_is_refused(
    name: FigureName, omitted: str, message: str, figure_results: Path, tmp_path: Path
) -> None:
    part = linked_copy(figure_results, tmp_path, omitted)
    with pytest.raises(RiftError, match=message):
        draw(name, part, grid_for(name))


def test_a_grid_of_several_cells_and_other_formats_are_refused(
    figure_results: Path, tmp_path: Path
) -> None:
    two = a_grid(architectures=("resnet18", "resnet34"), scopes=SCOPES)
    with pytest.raises(RiftError, match="figure training shows one dataset, architecture, regime"):
        draw("training", figure_results, two)
    assert (
        draw("contact-sheet", figure_results, two).get_suptitle().startswith("digits; severities")
    )
    with pytest.raises(RiftError, match=r"figures are written as \.png or \.pdf, not \.gif"):
        save_figure(draw("training", figure_results, grid()), tmp_path / "a.gif")
