"""Made-up results that tests of reporting share."""

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from rift import artifacts, data, layout
from rift.config import Corrupt, CorruptionName
from rift.layout import Cell, Run
from tests.reporting.drawn import (
    AT,
    CORRUPTIONS,
    FLAT,
    SCOPES,
    SEEDS,
    TRANSFER_SCOPES,
    TWINS_AT,
    modules,
)
from tests.results import (
    RunContent,
    a_grid,
    settings_of,
    source,
    transfer_history,
    write_benchmark,
    write_dataset,
    write_manifest,
    write_run,
)

CELL = Cell("digits", "resnet8", "pgd")
ONE_CELL = a_grid()
GRID = a_grid(("digits", "letters"), ("resnet8", "resnet18"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, prepared: data.Prepared) -> Path:
    """Return results of two data sets, two architectures and two seeds. ResNet-18 was imported."""
    folder = tmp_path_factory.mktemp("results")
    corruptions: tuple[CorruptionName, ...] = ("gaussian_noise", "contrast", "fog")
    settings = Corrupt(images=3, source="generated")
    write_dataset(folder, "digits", prepared, corruptions, settings)
    rng = np.random.default_rng(0)
    for names in product(GRID.datasets, GRID.architectures, GRID.regimes):
        content = RunContent(
            stage="import" if "resnet18" in names else "train", settings=settings_of("pgd")
        )
        for seed in GRID.seeds:
            run = Run(Cell(*names), seed)
            write_run(folder, run, content, rng)
            for stage, part, seconds in (
                ("train", "", 20.0 + seed),
                ("evaluate ood", "base", 4.0),
                ("finetune", "rift", 5.0),
            ):
                path, *_ = layout.benchmarks(run, stage, part)
                write_benchmark(folder / path, seconds)
    for dataset in GRID.datasets:
        write_manifest(folder, dataset)
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the results of one cell, which a test may damage."""
    for part in (CELL.name, "data/digits", f"benchmarks/{CELL.name}"):
        shutil.copytree(folder / part, tmp_path / "r" / part)
    return tmp_path / "r"


@pytest.fixture(scope="session")
def figure_results(tmp_path_factory: pytest.TempPathFactory, prepared: data.Prepared) -> Path:
    """Return results of three seeds and nine variants, for networks of 21 and of 104 modules.

    There is also a transfer by TWINS and by its baseline.
    """
    folder, rng = tmp_path_factory.mktemp("figures"), np.random.default_rng(0)
    settings = Corrupt(images=1, source="generated")
    write_dataset(folder, "digits", prepared, CORRUPTIONS, settings)
    for architecture, count in (("resnet18", 21), ("resnet34", 104)):
        content = RunContent(
            scopes=SCOPES,
            modules=modules(count),
            corruptions=CORRUPTIONS,
            images=80,
            epochs=30,
            robust_module=FLAT,
        )
        for seed in SEEDS:
            write_run(folder, Run(Cell("digits", architecture, "pgd"), seed), content, rng)
            for cell, gradient, gap in ((AT, 1.0, 8.0), (TWINS_AT, 1.5, 6.0)):
                run = Run(cell._replace(architecture=architecture), seed)
                write_run(folder, run, replace(content, scopes=TRANSFER_SCOPES), rng)
                rows = transfer_history(30, seed, gradient=gradient, gap=gap)
                artifacts.write_csv(folder / run.name / layout.TRAINING, rows, source())
    return folder
