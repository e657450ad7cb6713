"""Faults of a cluster, on a real Slurm: each hits one run, which must end as if it had not."""

import os
import re
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.slurm.cluster import Cluster, until
from tests.slurm.running import GRID, LIMIT, OnSlurm, differing, running_job
from tests.workflow.running import RUN

pytestmark = [pytest.mark.slurm, pytest.mark.long]

LOGS = Path("results/tiny/logs") / RUN.relative_to("results/tiny")
FINETUNED = RUN / "rift/finetuned.safetensors"
FINETUNE = "/bin/rift\0finetune\0"
CRITICALITY_MB = [350, 5600]
"""Memory of the first and second attempt. Importing torch takes more than the first has."""


class Job(NamedTuple):
    """A job as squeue remembers it; ``rule`` is without wildcards, and ``spent`` is M:SS."""

    number: str
    state: str
    memory: str
    spent: str
    rule: str


@dataclass
class Disturbed:
    """A folder in which the grid went through Slurm with one fault of every kind.

    Attributes:
        cancelled: number of the training that was cancelled.
        broken: number of the training whose node broke.
        limited: number of the fine-tuning whose time ran out.
        orphans: jobs that a killed Snakemake left behind.
        refused: the same command while they were in the queue.
        submitted: numbers of the jobs that this command submitted.
        jobs: all jobs.
    """

    workflow: OnSlurm
    cancelled: str
    broken: str
    limited: str
    orphans: dict[str, str]
    refused: subprocess.CompletedProcess[str]
    submitted: set[str]
    jobs: list[Job]

    def log(self, name: str) -> str:
        return (self.workflow.folder / LOGS / name).read_text()


def remembered(cluster: Cluster) -> list[Job]:
    lines = cluster.says("squeue", "--noheader", "--states=all", "--format=%i %T %m %M %k")
    jobs = [Job(*line.split(None, 4)) for line in lines.splitlines()]
    rules = (job.rule.removeprefix("rule_").partition("_wildcards_")[0] for job in jobs)
    return [job._replace(rule=rule) for job, rule in zip(jobs, rules, strict=True)]


def text_of(path: Path) -> str:
    """Return the text of a log; nothing while Snakemake has removed it for an attempt."""
    with suppress(FileNotFoundError):
        return path.read_text()
    return ""


def jobs_of(log: str) -> list[str]:
    """Return the jobs that wrote a log."""
    return re.findall(r"^-- \S+ on \S+, job (\d+)$", log, re.MULTILINE)


def attempts_of(log: str) -> list[str]:
    """Return what each of these jobs wrote."""
    return re.split(r"^-- \S+ on \S+, job \d+$", log, flags=re.MULTILINE)[1:]


def cancel_training(cluster: Cluster, folder: Path, before: set[str]) -> str:
    until((folder / RUN / "training.csv").exists, LIMIT, "the first epoch")
    job = running_job(cluster, "train", after=before)
    cluster.says("scancel", job)
    until(lambda: not cluster.processes("/bin/rift\0train\0"), 60, "the end of its program")
    return job


def break_node(cluster: Cluster, folder: Path, before: set[str]) -> str:
    until(lambda: running_job(cluster, "train", after=before), LIMIT, "the second attempt")
    job = running_job(cluster, "train", after=before)
    until(lambda: "continuing" in text_of(folder / LOGS / "train.log"), LIMIT, "its continuation")
    cluster.breaks()
    return job


def stop_finetuning(
    cluster: Cluster, folder: Path, before: set[str], snakemake: "subprocess.Popen[str]"
) -> str:
    """Stop a fine-tuning after its first batches, and return its job.

    It then takes as long as a longer one, until Slurm wakes it up to send it a signal.
    """
    log = folder / LOGS / "rift/finetune.log"

    def works() -> bool:
        assert snakemake.poll() is None, "Snakemake has ended"
        text = text_of(log)
        return not before.issuperset(jobs_of(text)[-1:]) and "finetune: " in attempts_of(text)[-1]

    until(works, LIMIT, "the fine-tuning")
    (program,) = cluster.processes(FINETUNE)
    os.kill(program, signal.SIGSTOP)
    return running_job(cluster, "finetune", after=before)


def run_out_of_time(
    cluster: Cluster, folder: Path, before: set[str], snakemake: "subprocess.Popen[str]"
) -> str:
    """Let Slurm warn a fine-tuning of its time limit."""
    job = stop_finetuning(cluster, folder, before, snakemake)
    cluster.says("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    until(lambda: job not in cluster.jobs("RUNNING"), 180, "its end")
    return job


@pytest.fixture(scope="module")
def disturbed(
    cluster: Cluster, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Disturbed:
    workflow = OnSlurm(repository, tmp_path_factory.mktemp("faults"), cluster.environment)
    first, second = CRITICALITY_MB
    assert second == first * 2**4
    workflow.resources = {
        "criticality_shard": {"mem_mb": f"min({first} * attempt**4, {second})"},
    }
    folder, before = workflow.folder, set(cluster.jobs("all"))
    # The logs of failed jobs would fill a pipe.
    workflow.output = folder / "snakemake.log"
    process = workflow.start(GRID)
    workflow.output = None
    try:
        cancelled = cancel_training(cluster, folder, before)
        broken = break_node(cluster, folder, before | {cancelled})
        limited = run_out_of_time(cluster, folder, before, process)
        until(lambda: running_job(cluster, "interpolate", after=before), LIMIT, "the next stage")
        process.kill()
        process.wait()
        orphans = cluster.jobs()
        refused = workflow(GRID)
        submitted = set(cluster.jobs()) - set(orphans)
        until(lambda: not cluster.jobs(), LIMIT, "the end of the orphans")
        answer = workflow(GRID)
    finally:
        process.kill()
    assert answer.returncode == 0, answer.stdout + answer.stderr + cluster.logs()
    jobs = [job for job in remembered(cluster) if job.number not in before]
    return Disturbed(workflow, cancelled, broken, limited, orphans, refused, submitted, jobs)


def test_after_all_faults_the_results_are_those_of_an_undisturbed_run(
    disturbed: Disturbed, local: Path
) -> None:
    assert differing(disturbed.workflow.folder / "results/tiny", local) == []


def test_a_cancelled_training_saves_its_state_and_another_job_goes_on(
    disturbed: Disturbed,
) -> None:
    log = disturbed.log("train.log")
    assert jobs_of(log)[:2] == [disturbed.cancelled, disturbed.broken]
    before, after = re.split(rf"^-- .* job {disturbed.broken}$", log, flags=re.MULTILINE)[:2]
    assert "stopped by SIGTERM; run the same command again to continue" in before
    assert re.search(r"continuing in epoch \d+, after batch [1-9]", after)


def test_slurm_starts_a_job_again_whose_node_broke(disturbed: Disturbed, cluster: Cluster) -> None:
    assert jobs_of(disturbed.log("train.log"))[1:] == [disturbed.broken] * 2
    assert re.search(r"Restarts=[1-9]", cluster.says("scontrol", "show", "job", disturbed.broken))
    assert "continuing" in disturbed.log("train.log").rpartition("\n-- ")[2]
    trainings = [job.number for job in disturbed.jobs if job.rule == "train"]
    assert sorted(trainings) == sorted([disturbed.cancelled, disturbed.broken])


def test_a_job_that_is_out_of_memory_gets_more_in_its_second_attempt(disturbed: Disturbed) -> None:
    shards = sorted(
        (job for job in disturbed.jobs if job.rule == "criticality_shard"),
        key=lambda job: int(job.number),
    )
    first, second = (f"{mb}M" for mb in CRITICALITY_MB)
    assert [job.memory for job in shards] == [first, first, second, second]
    assert all(job.state != "COMPLETED" for job in shards[:2])
    assert all(job.state == "COMPLETED" for job in shards[2:])


def test_a_job_whose_time_runs_out_saves_its_state_and_another_job_goes_on(
    disturbed: Disturbed,
) -> None:
    log = disturbed.log("rift/finetune.log")
    assert len(jobs_of(log)) == 2
    assert jobs_of(log)[0] == disturbed.limited
    # It ended before its limit of a minute: the warning came first.
    (spent,) = (job.spent for job in disturbed.jobs if job.number == disturbed.limited)
    assert spent.startswith("0:")
    before, after = attempts_of(log)
    assert "stopped by SIGTERM; run the same command again to continue" in before
    assert "continuing" in after


def test_orphans_of_a_killed_snakemake_are_named_and_none_of_their_work_is_done_again(
    disturbed: Disturbed,
) -> None:
    assert disturbed.refused.returncode == 1
    assert disturbed.orphans
    for number in disturbed.orphans:
        assert re.search(rf"scancel [\d ]*\b{number}\b", disturbed.refused.stderr)
    assert "Traceback" not in disturbed.refused.stderr
    assert disturbed.submitted == set()
    # The outputs that the orphan finished are complete, so no other job makes them again.
    (interpolation,) = jobs_of(disturbed.log("rift/interpolate.log"))
    assert interpolation in disturbed.orphans


def test_at_the_time_limit_itself_a_job_saves_its_state_within_the_grace_period(
    disturbed: Disturbed, cluster: Cluster, local: Path
) -> None:
    """No warning comes before the limit. This must be the last test that uses the folder."""
    workflow, before = disturbed.workflow, set(cluster.jobs("all"))
    workflow.resources = {"finetune": {"slurm_extra": "", "runtime": "1m"}}
    scope = (workflow.folder / FINETUNED).parent
    for path in scope.iterdir():
        path.unlink()
    workflow.output = workflow.folder / "snakemake.log"
    # Snakemake does not miss a file whose followers are up to date.
    process = workflow.start(GRID, "--forcerun", "finetune")
    try:
        job = stop_finetuning(cluster, workflow.folder, before, process)
        until(lambda: job not in cluster.jobs("RUNNING"), 180, "the limit")
        assert process.wait(LIMIT) == 0, workflow.output.read_text()
    finally:
        process.kill()
    attempts = attempts_of(disturbed.log("rift/finetune.log"))[-2:]
    assert "stopped by SIGTERM" in attempts[0]
    assert "continuing" in attempts[1]
    assert differing(workflow.folder / "results/tiny", local) == []
