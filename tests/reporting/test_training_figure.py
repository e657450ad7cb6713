"""The figure of training histories."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rift import artifacts, layout
from rift.config import ScheduleName, Train
from rift.errors import RiftError
from rift.layout import Run
from rift.reporting.figures.drawing import draw
from rift.training.schedules import SCHEDULES
from tests.reporting.conftest import CELL
from tests.reporting.drawn import legend_of
from tests.results import a_grid, source

DROP = "sudden drop of the learning rate"
AVERAGED = "selection split, averaged weights"


def history(
    learning_rate: list[float], adversarial: list[float], train: list[float], kept: int
) -> pd.DataFrame:
    """Return a training history."""
    return pd.DataFrame(
        {
            "epoch": range(1, len(train) + 1),
            "learning_rate": learning_rate,
            "standard_accuracy": 80.0,
            "adversarial_accuracy": adversarial,
            "train_standard_accuracy": 90.0,
            "train_adversarial_accuracy": train,
        }
    ).assign(kept=lambda table: table["epoch"] == kept)


def drawn(rows: pd.DataFrame, folder: Path) -> tuple[Figure, Axes]:
    """Draw a history; return the figure and its upper panel."""
    artifacts.write_csv(folder / Run(CELL, 0).name / layout.TRAINING, rows, source())
    figure = draw("training", folder, a_grid(seeds=(0,)))
    return figure, figure.axes[0]


def vertical_lines(axis: Axes, style: str) -> list[float]:
    """Return the places of vertical lines of a style."""
    lines = [line for line in axis.lines if line.get_linestyle() == style]
    places = [np.asarray(line.get_xdata(), float) for line in lines if line.get_marker() == "None"]
    return [float(place[0]) for place in places if len(set(place)) == 1]


def test_the_gap_after_the_kept_epoch_is_shaded(tmp_path: Path) -> None:
    rates = [0.1, 0.1, 0.01, 0.001, 0.001]
    rows = history(rates, [30, 40, 50, 47, 44], [31, 42, 54, 65, 76], kept=3)
    figure, axis = drawn(rows, tmp_path)
    (shade,) = axis.collections
    corners = {(x, y) for x, y in np.asarray(shade.get_paths()[0].vertices).tolist()}
    assert corners == {(3, 50), (3, 54), (4, 47), (4, 65), (5, 44), (5, 76)}
    assert axis.get_title() == "seed 0: epoch 3 kept\ngap 4.0 there, 32.0 at the end"
    assert vertical_lines(axis, "-") == [3]
    assert vertical_lines(axis, ":") == [2.5, 3.5]
    assert DROP in legend_of(figure)
    assert AVERAGED not in legend_of(figure)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_smooth_schedules_have_no_sudden_drop(schedule: ScheduleName, tmp_path: Path) -> None:
    settings = Train(epochs=20, schedule=schedule)
    rates = [SCHEDULES[schedule](settings, epoch + 0.99) for epoch in range(20)]
    assert rates[-1] < rates[-2] / 2
    figure, axis = drawn(history(rates, [40.0] * 20, [50.0] * 20, kept=20), tmp_path)
    assert vertical_lines(axis, ":") == []
    assert DROP not in legend_of(figure)


@pytest.mark.parametrize(
    ("averaged", "kept"), [(49.0, 49.0), (44.0, 45.0)], ids=["averaged", "last step's"]
)
def test_the_weights_that_were_kept_are_marked(
    averaged: float, kept: float, tmp_path: Path
) -> None:
    rows = history([0.1] * 3, [30, 45, 40], [31, 50, 55], kept=2)
    accuracies = [10, averaged, 48]
    rows = rows.assign(averaged_standard_accuracy=81.0, averaged_adversarial_accuracy=accuracies)
    rows["averaged_kept"] = rows["kept"] & (averaged == kept)
    figure, axis = drawn(rows, tmp_path)
    (mark,) = [line for line in axis.lines if line.get_marker() == "o"]
    assert (mark.get_xdata(), mark.get_ydata()) == ([2], [kept])
    assert ("averaged weights" in axis.get_title()) == (averaged == kept)
    assert AVERAGED in legend_of(figure)


def test_a_history_without_a_kept_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RiftError, match=r"seed 0 .* has no epoch that was kept"):
        drawn(history([0.1], [30], [31], kept=9), tmp_path)
