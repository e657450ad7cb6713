"""The workflow on a real Slurm: jobs that are killed, and a Snakemake that is killed."""

import os
import re
import signal
from collections.abc import Collection
from pathlib import Path

import pytest

from rift import artifacts
from tests.golden import digests
from tests.slurm.cluster import Cluster, until
from tests.slurm.running import GRID, LIMIT, OnSlurm, differing, running_job
from tests.workflow.running import RUN, Workflow

pytestmark = pytest.mark.slurm

SUBMITTED = {
    *("prepare", "corrupt", "train", "examples", "criticality_shard", "finetune", "interpolate"),
    *("evaluate_ood", "evaluate_adversarial_shard"),
}
BASE = str(RUN / "base.safetensors")
LOG = Path("results/tiny/logs") / RUN.relative_to("results/tiny") / "train.log"


def log_of(workflow: Workflow) -> str:
    """Return the log of the training; nothing while Snakemake has removed it for an attempt."""
    log = workflow.folder / LOG
    return log.read_text() if log.exists() else ""


def training(cluster: Cluster, *, after: Collection[str] = ()) -> str:
    """Return the number of the training that runs; nothing if none does."""
    return running_job(cluster, "train", after=after)


@pytest.fixture(scope="module")
def workflow(
    cluster: Cluster, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> OnSlurm:
    """Return a folder where the grid went through Slurm while its training was killed twice."""
    workflow = OnSlurm(repository, tmp_path_factory.mktemp("slurm"), cluster.environment)
    folder = workflow.folder
    process = workflow.start(GRID)
    try:
        until((folder / RUN / "training.csv").exists, LIMIT, "the first epoch")
        first = training(cluster)
        # The steps of the job get the signal, as they do before a time limit.
        cluster.says("scancel", "--signal=TERM", first)
        until(lambda: training(cluster, after={first}), LIMIT, "the second attempt")
        until(lambda: "continuing" in log_of(workflow), LIMIT, "its continuation")
        # Out of memory, or a node that breaks: the program alone is killed, and saves nothing.
        (program,) = cluster.processes("/rift\0train\0")
        os.kill(program, signal.SIGKILL)
        output = "".join(process.communicate(timeout=LIMIT))
    finally:
        process.kill()
    assert process.returncode == 0, output + cluster.logs()
    return workflow


def test_tables_are_those_of_an_undisturbed_local_run(workflow: OnSlurm, local: Path) -> None:
    results = workflow.folder / "results/tiny"
    assert len([path for path in local.glob("tables/*.*") if path.suffix != ".json"]) == 12
    assert differing(results, local) == []
    assert digests(results) == digests(local)


def test_the_training_went_on_within_its_epoch_and_its_log_has_all_attempts(
    workflow: OnSlurm,
) -> None:
    log = log_of(workflow)
    attempts = re.split(r"^-- \S+ on \S+, job \d+$", log, flags=re.MULTILINE)[1:]
    assert len(attempts) == 3, log
    assert "stopped by SIGTERM; run the same command again to continue" in attempts[0]
    places = [re.search(r"continuing in epoch \d+, after batch (\d+)", each) for each in attempts]
    assert places[0] is None
    assert places[1] is not None
    assert int(places[1][1]) > 0
    assert places[2] is not None
    assert places[2][0] == places[1][0]


def test_jobs_of_seconds_are_not_submitted(cluster: Cluster, workflow: OnSlurm) -> None:
    submitted = {
        job.removeprefix("rule_").partition("_wildcards_")[0]
        for job in cluster.jobs("all").values()
    }
    assert submitted == SUBMITTED


def test_without_the_command_rift_nothing_is_submitted(cluster: Cluster, workflow: OnSlurm) -> None:
    before = cluster.jobs("all")
    path = cluster.environment["PATH"].split(":")
    # As without an activated environment: Snakemake is called by its path.
    without = [each for each in path if not os.access(f"{each}/rift", os.X_OK)]
    bare = OnSlurm(
        workflow.repository,
        workflow.folder,
        {**cluster.environment, "PATH": ":".join(without)},
    )
    answer = bare(GRID, "--forcerun", "prepare")
    assert answer.returncode == 1
    assert "jobs would not find the command rift; activate the environment" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert cluster.jobs("all") == before


def test_after_snakemake_was_killed_its_jobs_are_named_and_their_work_is_adopted(
    cluster: Cluster, workflow: OnSlurm
) -> None:
    """This must be the last test that uses the shared folder: it trains another base."""
    other = {**GRID, "train": {"epochs": 6, "learning_rate": 0.04}}
    before = set(cluster.jobs("all"))
    killed = workflow.start(other, BASE)
    orphan = until(lambda: training(cluster, after=before), LIMIT, "the training")
    until(lambda: "computing on" in log_of(workflow)[-200:], LIMIT, "its start")
    killed.kill()
    killed.wait()
    answer = workflow(other, BASE)
    assert answer.returncode == 1
    assert "1 jobs of an earlier run in this folder are still in the queue" in answer.stderr
    assert f"scancel {orphan}" in answer.stderr
    assert "Traceback" not in answer.stderr
    until(lambda: orphan not in cluster.jobs(), LIMIT, "the end of the orphan")
    answer = workflow(other, BASE)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    history = artifacts.read_csv(workflow.folder / RUN / "training.csv", ("epoch",))
    assert list(history["epoch"]) == list(range(1, 7))
    last = log_of(workflow).rpartition("\n-- ")[2]
    # Nothing is adopted from a checkout with changes.
    if not str(artifacts.commit()).endswith("-dirty"):
        assert "already finished with the same settings and inputs: adopted" in last
