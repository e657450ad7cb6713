"""A finished experiment on digits, made by the commands that the workflow calls."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rift import config
from rift.lineage.configuration import record_experiment
from tests.experiment import commands, rift
from tests.workflow.running import SMALL


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished experiment, which tests must not change."""
    folder = tmp_path_factory.mktemp("lineage") / "results/small"
    for words in commands(folder, config.parse(SMALL, "config.yaml")).values():
        rift(*words)
    record_experiment(folder, SMALL)
    return folder


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the finished experiment that a test may change."""
    folder = tmp_path / "results/small"
    shutil.copytree(finished, folder)
    yield folder
    shutil.rmtree(folder)
