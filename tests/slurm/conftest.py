"""A Slurm of one node, for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Cluster(gpus=2) as cluster:
        yield cluster
