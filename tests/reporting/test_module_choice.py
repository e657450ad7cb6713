"""The table of rules for the choice of the module."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rift import artifacts, layout
from rift.errors import RiftError
from rift.layout import Run
from rift.reporting.figures.drawing import draw
from rift.reporting.module_gains import rank_correlation
from rift.reporting.tables.making import make_table
from tests.reporting.conftest import CELL
from tests.reporting.drawn import legend_of, points
from tests.results import RunContent, a_grid, rewrite_json, source, write_run

MODULES = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "linear")
MRC = {0: (0.4, 0.3, 0.1, 0.2), 1: (0.1, 0.2, 0.3, 0.4), 2: (0.4, 0.3, 0.2, 0.1)}
GAINS = {0: (1.0, 2.0, 4.0, 3.0), 1: (4.0, 3.0, 2.0, 1.0), 2: (1.0, 4.0, 2.0, 3.0)}
SCOPES = tuple(f"module-{module}" for module in MODULES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return three seeds with every module fine-tuned alone, and a scope of several modules."""
    content = RunContent(scopes=(*SCOPES, "top2"), modules=MODULES, autoattack=())
    for seed in MRC:
        write_run(tmp_path, Run(CELL, seed), content, np.random.default_rng(seed))
        run = tmp_path / Run(CELL, seed).name
        path = run / layout.CRITICALITY
        table = artifacts.read_csv(path, ()).assign(mrc=MRC[seed])
        artifacts.write_csv(path, table, source({"criticality": {}}))
        for place, (module, scope) in enumerate(zip(MODULES, SCOPES, strict=True)):
            accuracies = [70.0, 70 + GAINS[seed][place], 99.0]
            sweep = pd.DataFrame({"alpha": [0, 0.5, 1], "standard_accuracy": accuracies})
            sweep["adversarial_accuracy"] = 50.0
            artifacts.write_csv(run / layout.sweep(scope), sweep, source())
            rewrite_json(run / layout.selection(scope), alpha=0.5)
            facts: dict[str, Any] = {"modules": [module], "clean_gradient": place * 0.1}
            weights = {"weight": np.zeros(1)}
            artifacts.write_arrays(run / layout.finetuned(scope), weights, source(), **facts)
    return tmp_path


def rows_of(folder: Path, *scopes: str) -> dict[tuple[str, str], str]:
    """Return the texts of the table by statistic and column."""
    table = make_table(
        "module-choice", folder, a_grid(seeds=(0, 1, 2), scopes=scopes, autoattack=())
    )
    assert len(table.numbers) == len(table.numbers.drop_duplicates(["seed", "module"]))
    rows = table.shown.droplevel("Base").to_dict("index")
    return {
        (str(row), str(key)): text for row, texts in rows.items() for key, text in texts.items()
    }


def test_the_table_needs_no_weights(folder: Path) -> None:
    expected = rows_of(folder, *SCOPES, "top2")
    for seed, scope in product(MRC, (*SCOPES, "top2")):
        run = folder / Run(CELL, seed).name
        weights = run / layout.finetuned(scope)
        facts = {
            name: artifacts.read_facts(weights)[name] for name in ("modules", "clean_gradient")
        }
        rows = pd.DataFrame({"epoch": [1]})
        artifacts.write_csv(run / layout.finetuning(scope), rows, {**source(), **facts})
        weights.unlink()
    assert rows_of(folder, *SCOPES, "top2") == expected


def test_a_rule_is_judged_by_the_gains_of_every_module(folder: Path) -> None:
    # The scope of two modules says nothing about one of them.
    rows = rows_of(folder, *SCOPES, "top2")
    expected = [float(stats.spearmanr(MRC[seed], GAINS[seed]).statistic) for seed in MRC]
    low, high = stats.t.interval(0.95, 2, np.mean(expected), stats.sem(expected))
    assert expected == pytest.approx([-1, -1, -0.4])
    assert rows["MRC", "By seed"] == "−1.00, −1.00, −0.40"
    assert rows["MRC", "ρ with the gain"] == f"−0.80 [−1.00, +{high:.2f}]"
    assert low < -1
    # The smallest MRC chooses another module in each seed: gains 4, 4 and 3.
    assert rows["MRC", "Smallest"] == "+3.67: layer1.0.conv2, conv1, linear"
    assert rows["depth", "Smallest"] == "+2.00: conv1"
    assert rows["gradient of the clean loss", "Largest"] == "+2.33: linear"
    assert rows["hindsight", "Largest"] == "+4.00: layer1.0.conv2, conv1, layer1.0.conv1"


def test_what_was_not_measured_is_left_out(folder: Path) -> None:
    run = folder / Run(CELL, 1).name
    for scope, module in zip(SCOPES, MODULES, strict=True):
        path = run / layout.finetuned(scope)
        artifacts.write_arrays(path, {"weight": np.zeros(1)}, source(), modules=[module])
    for scope in SCOPES[:2]:
        (run / layout.selection(scope)).unlink()
    rows = rows_of(folder, *SCOPES)
    # Two modules are too few for a correlation.
    assert rows["MRC", "By seed"] == "−1.00, –, −0.40"
    assert rows["MRC", "ρ with the gain"] == "−0.70"
    assert rows["gradient of the clean loss", "By seed"] == "+0.80, –, +0.40"


def test_the_figure_shows_every_module_of_every_seed(folder: Path) -> None:
    figure = draw("module-choice", folder, a_grid(seeds=(0, 1, 2), scopes=SCOPES, autoattack=()))
    titles = [axis.get_title() for axis in figure.axes]
    rows = rows_of(folder, *SCOPES)
    assert titles == [
        f"ρ {rows['MRC', 'ρ with the gain']}",
        "ρ not defined",  # all modules of the made-up tables have the same number of weights
        f"ρ {rows['depth', 'ρ with the gain']}",
        f"ρ {rows['gradient of the clean loss', 'ρ with the gain']}",
    ]
    by_mrc = [line for line in figure.axes[0].lines if len(points(line)) == 1]
    shown = {(*points(line)[0].tolist(), line.get_markersize() > 5) for line in by_mrc}
    assert shown == {
        (mrc, gain, mrc == 0.1)
        for seed in MRC
        for mrc, gain in zip(MRC[seed], GAINS[seed], strict=True)
    }
    # The gradient of the first module is zero, which a logarithmic axis cannot show.
    hollow = [line for line in figure.axes[3].lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == 3
    assert "least critical module (RiFT)" in legend_of(figure)


def test_too_few_modules_are_refused(folder: Path) -> None:
    asked = a_grid(seeds=(0, 1, 2), scopes=(*SCOPES[:2], "top2"), autoattack=())
    with pytest.raises(RiftError, match=r"needs 3 modules .* results for 2; add scopes module-N"):
        draw("module-choice", folder, asked)


@pytest.mark.parametrize("seed", range(20))
def test_the_rank_correlation_is_spearman_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (pd.Series(rng.integers(0, 6, 9).astype(float)) for _ in range(2))
    assert rank_correlation(first, second) == pytest.approx(
        float(stats.spearmanr(first, second).statistic), nan_ok=True
    )
