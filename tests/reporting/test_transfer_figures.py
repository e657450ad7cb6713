"""The figures of TWINS beside its baseline, computed again from the histories."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from rift import artifacts, layout
from rift.config import FigureName, Variant
from rift.errors import RiftError
from rift.layout import Cell, Run
from rift.reporting.figures.drawing import draw
from rift.reporting.figures.style import BASELINE, TWINS
from rift.statistics import paired_delta
from tests.reporting.drawn import AT, SEEDS, TWINS_AT, grid, grid_for, hex_of, legend_of, points
from tests.results import linked_copy, outcomes_of, source, transfer_history

SHADES = {AT: BASELINE, TWINS_AT: TWINS}


def table_of(folder: Path, cell: Cell, column: str) -> pd.DataFrame:
    """Return a column: one row per epoch, one column per seed."""
    files = {seed: folder / Run(cell, seed).name / layout.TRAINING for seed in SEEDS}
    return pd.DataFrame(
        {seed: pd.read_csv(file, comment="#")[column] for seed, file in files.items()}
    )


def curves(figure: Figure, panel: int, cell: Cell, style: str = "-") -> list[np.ndarray]:
    """Return the curves of a method, without marks."""
    return [
        points(line)
        for line in figure.axes[panel].lines
        if hex_of(line.get_color()) == SHADES[cell].upper()
        and line.get_linestyle() == style
        and line.get_marker() == "None"
    ]


def band_of(figure: Figure, panel: int, cell: Cell, epoch: int) -> list[tuple[float, float]]:
    """Return the ends of the bands of a method at an epoch."""
    found = []
    for part in figure.axes[panel].collections:
        if hex_of(part.get_facecolor()) == SHADES[cell].upper():
            corners = np.asarray(part.get_paths()[0].vertices)
            at = corners[corners[:, 0] == epoch, 1]
            found.append((at.min(), at.max()))
    return found


@pytest.mark.parametrize("cell", [AT, TWINS_AT], ids=["baseline", "twins"])
def test_accuracies_and_their_gap_are_means_over_seeds(cell: Cell, figure_results: Path) -> None:
    figure = draw("transfer-training", figure_results, grid_for("transfer-training"))
    for row, kind in enumerate(("adversarial", "standard")):
        selection, training = (
            table_of(figure_results, cell, f"{split}{kind}_accuracy") for split in ("", "train_")
        )
        (drawn,) = curves(figure, 2 * row, cell)
        np.testing.assert_allclose(drawn[:, 1], selection.mean(axis=1))
        assert drawn[:, 0].tolist() == list(range(1, 31))
        (drawn,) = curves(figure, 2 * row, cell, "--")
        np.testing.assert_allclose(drawn[:, 1], training.mean(axis=1))
        (drawn,) = curves(figure, 2 * row + 1, cell)
        gap = training - selection
        np.testing.assert_allclose(drawn[:, 1], gap.mean(axis=1))
        last = gap.iloc[-1]
        expected = stats.t.interval(0.95, 2, last.mean(), stats.sem(last))
        assert band_of(figure, 2 * row + 1, cell, 30) == [pytest.approx(expected)]
    # The gaps of the made-up histories are 8 and 6 points at the end, and 0.5 more per seed.
    assert figure.axes[1].get_title() == "gap at the end: +8.5 (at), +6.5 (twins-at)"
    assert figure.get_suptitle() == (
        "letters-to-digits, resnet18, twins-at; compared with at, seeds 0, 1, 2"
    )
    assert "twins-at, training images" in legend_of(figure)


def test_every_kept_epoch_is_marked(figure_results: Path, tmp_path: Path) -> None:
    part = linked_copy(figure_results, tmp_path, "transfers/**/twins-at/seed1/training.csv")
    rows = transfer_history(30, 1).assign(kept=lambda table: table["epoch"] == 5)
    artifacts.write_csv(part / Run(TWINS_AT, 1).name / layout.TRAINING, rows, source())
    figure = draw("transfer-training", part, grid_for("transfer-training"))
    marks = {
        hex_of(line.get_color()): points(line)[:, 0].tolist()
        for line in figure.axes[0].lines
        if line.get_marker() == "^"
    }
    assert marks == {BASELINE.upper(): [21, 21, 21], TWINS.upper(): [21, 5, 21]}


def test_the_mechanism_shows_norms_effective_learning_rate_and_relative_step(
    figure_results: Path,
) -> None:
    figure = draw("transfer-mechanism", figure_results, grid_for("transfer-mechanism"))
    start = table_of(figure_results, AT, "weight_norm").iloc[0]
    ratios = []
    for cell in (AT, TWINS_AT):
        norm, gradient, rate = (
            table_of(figure_results, cell, name)
            for name in ("weight_norm", "gradient_norm", "learning_rate")
        )
        expected = [norm / start, gradient, rate / norm**2, rate * gradient / norm]
        ratios.append(expected)
        for panel, values in enumerate(expected):
            (drawn,) = curves(figure, panel, cell)
            np.testing.assert_allclose(drawn[:, 1], values.mean(axis=1))
        low, high = stats.t.interval(0.95, 2, gradient.loc[29].mean(), stats.sem(gradient.loc[29]))
        assert band_of(figure, 1, cell, 30) == [pytest.approx((low, high))]
    for axis, before, after in zip(figure.axes, *ratios, strict=True):
        mean = stats.gmean(after / before, axis=None)
        assert axis.get_title() == f"mean ratio twins-at / at: {mean:.2f}"
    assert figure.axes[1].get_title().endswith("1.50")
    assert [axis.get_yscale() for axis in figure.axes] == ["linear", "linear", "log", "log"]


@pytest.mark.parametrize("name", ["transfer-training", "transfer-mechanism"])
def test_only_seeds_of_both_methods_are_compared(
    name: FigureName, figure_results: Path, tmp_path: Path
) -> None:
    part = linked_copy(figure_results, tmp_path, "transfers/**/at/seed1/training.csv")
    figure = draw(name, part, grid_for(name))
    assert "compared with at, seeds 0, 2" in figure.get_suptitle()
    assert "range of both seeds" in legend_of(figure)
    alone = draw(name, part, grid_for(name, (2,)))
    assert not any(axis.collections for axis in alone.axes)


def test_other_cells_and_histories_without_norms_are_refused(
    figure_results: Path, tmp_path: Path
) -> None:
    with pytest.raises(RiftError, match="figure transfer-training shows a transfer by TWINS besi"):
        draw("transfer-training", figure_results, grid())
    part = linked_copy(figure_results, tmp_path, "transfers/**/at/seed0/training.csv")
    rows = transfer_history(30, 0).drop(columns=["gradient_norm"])
    artifacts.write_csv(part / Run(AT, 0).name / layout.TRAINING, rows, source())
    with pytest.raises(RiftError, match=r"at/seed0/training\.csv: lacks the columns gradient_norm"):
        draw("transfer-mechanism", part, grid_for("transfer-mechanism"))
    assert draw("transfer-training", part, grid_for("transfer-training"))


def test_both_methods_and_their_scopes_are_in_one_plane(figure_results: Path) -> None:
    figure = draw("transfer-pareto", figure_results, grid_for("transfer-pareto"))
    names = ["at", "at + least critical module (RiFT)", "at + last layer"]
    names += [name.replace("at", "twins-at", 1) for name in names]
    assert legend_of(figure)[:6] == names
    assert legend_of(figure)[-1] == "95% interval of the difference from at"

    def outcomes(cell: Cell, variant: Variant) -> list[np.ndarray]:
        kinds = ("pgd", "standard")
        return [outcomes_of(figure_results, cell, SEEDS, variant, kind) for kind in kinds]

    marks = {
        (line.get_marker(), hex_of(line.get_color())): points(line)[0].tolist()
        for line in figure.axes[0].lines
        if line.get_marker() != "None"
    }
    assert len(marks) == 6
    for cell, shade in SHADES.items():
        for variant, kind in (("base", "o"), ("rift", "D")):
            expected = [100 * part.mean() for part in outcomes(cell, variant)]
            assert marks[kind, shade.upper()] == pytest.approx(expected)

    # The reference of the intervals is the baseline's transfer, also for the scopes of TWINS.
    standard = outcomes(AT, "base")[1], outcomes(TWINS_AT, "rift")[1]
    delta, before = paired_delta(*standard), 100 * standard[0].mean()
    lines = [points(line)[:, 1] for line in figure.axes[0].lines if len(points(line)) == 2]
    expected = [before + delta.low, before + delta.high]
    assert any(line == pytest.approx(expected) for line in lines)
