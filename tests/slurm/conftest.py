"""A Slurm of one node, for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing
from tests.slurm.running import GRID
from tests.workflow.running import Workflow


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Cluster(gpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def local(cluster: Cluster, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of an undisturbed run without Slurm; not needed if there is no Slurm."""
    workflow = Workflow(repository, tmp_path_factory.mktemp("local"))
    answer = workflow(GRID)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return workflow.folder / "results/tiny"
