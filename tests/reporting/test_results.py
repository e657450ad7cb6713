"""Results by cell, variant and metric, and outcomes that can be compared."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rift import layout
from rift.errors import RiftError
from rift.layout import Run
from rift.reporting.outcomes import ALL, MEAN, Outcomes, pick, with_means
from rift.reporting.results import Results, cells, grid_of_folder
from tests.reporting.conftest import CELL, GRID, ONE_CELL
from tests.results import outcomes_of


def test_the_grid_of_a_folder_is_found_from_its_runs(copy: Path) -> None:
    grid = grid_of_folder(copy)
    assert list(cells(grid)) == [CELL]
    assert grid.seeds == (0, 1)
    assert grid.scopes == ("rift", "top2")


def test_a_folder_that_is_not_a_run_is_an_error(copy: Path) -> None:
    (copy / CELL.name / "seed-one").mkdir()
    with pytest.raises(RiftError, match="is not the name of a run"):
        grid_of_folder(copy)


def test_only_seeds_with_all_files_remain(copy: Path) -> None:
    results = Results(copy, ONE_CELL)
    (copy / Run(CELL, 0).name / layout.CRITICALITY).unlink()
    assert results.with_files(CELL, layout.BASE).grid.seeds == (0, 1)
    assert results.with_files(CELL, layout.BASE, layout.CRITICALITY).grid.seeds == (1,)
    assert results.with_files(CELL, "nothing").grid.seeds == ()
    assert results.only_seed(1).grid.seeds == (1,)


def test_imports_are_those_that_made_the_weights(folder: Path) -> None:
    results = Results(folder, GRID)
    imported = {cell.architecture: len(results.imports(cell)) for cell in cells(GRID)}
    assert imported == {"resnet8": 0, "resnet18": 2}


def test_outcomes_have_the_scores_of_all_seeds(folder: Path) -> None:
    results = Results(folder, ONE_CELL)
    outcomes = results.outcomes(CELL, "rift", "pgd")
    assert outcomes is not None
    expected = outcomes_of(folder, CELL, (0, 1), "rift", "pgd")
    np.testing.assert_array_equal(outcomes.array, expected)
    assert results.outcomes(CELL, "top2", "autoattack") is None


def test_means_over_corruptions_and_severities(folder: Path) -> None:
    outcomes = Results(folder, ONE_CELL).corrupted_outcomes(CELL, "base")
    means = with_means(outcomes)
    names = ("gaussian_noise", "contrast")
    arrays = {name: outcomes_of(folder, CELL, (0, 1), "base", name) for name in names}
    contrast = arrays["contrast"]
    np.testing.assert_allclose(means["contrast", MEAN].array, contrast.mean(axis=1))
    np.testing.assert_allclose(means["contrast", "2"].array, contrast[:, 1])
    both = np.mean(list(arrays.values()), axis=0)
    np.testing.assert_allclose(means[ALL, "5"].array, both[:, 4])
    np.testing.assert_allclose(means[ALL, MEAN].array, both.mean(axis=1))
    assert with_means({}) == {}


def test_outcomes_in_memory_are_paired_by_seed() -> None:
    one = Outcomes({0: np.zeros(3), 1: np.ones(3)})
    other = Outcomes({1: np.zeros(3), 2: np.ones(3)})
    before, after = one.paired(other)
    assert before.tolist() == [[1, 1, 1]]
    assert after.tolist() == [[0, 0, 0]]
    with pytest.raises(RiftError, match=r"seed 1: cannot be compared with seed 1 .* 2 images"):
        one.paired(Outcomes({1: np.zeros(2)}))


def test_pick_omits_keys_that_do_not_exist() -> None:
    settings = {"attack": {"eps": 0.1}, "evaluate": {"ood": {"severities": [1, 3]}}}
    keys = ("attack.eps", "attack.step", "evaluate.ood.severities", "other.key")
    assert pick(settings, keys) == {"attack.eps": 0.1, "evaluate.ood.severities": [1, 3]}


def test_reporting_does_not_import_torch() -> None:
    modules = "rift.reporting.overview, rift.reporting.tables.reference"
    program = f"import sys, {modules}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
