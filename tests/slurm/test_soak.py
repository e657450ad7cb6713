"""A short soak: the full one is ``make soak``."""

from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.running import GRID, LIMIT, OnSlurm, differing
from tests.slurm.soak import Soak


@pytest.mark.long
@pytest.mark.slurm
def test_after_random_kills_the_results_are_those_of_an_undisturbed_run(
    cluster: Cluster, local: Path, repository: Path, tmp_path: Path
) -> None:
    workflow = OnSlurm(repository, tmp_path, cluster.environment, tmp_path / "snakemake.log")
    soak = Soak(cluster, workflow, GRID, seed=1)
    soak.run(kill_seconds=120, limit_seconds=2 * LIMIT)
    assert soak.kills.total() >= 3
    assert differing(tmp_path / "results/tiny", local) == []
