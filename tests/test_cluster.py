"""Checks before a workflow submits jobs, with a squeue that only prints."""

import fcntl
import json
from pathlib import Path

import pytest

from rift import cluster
from rift.artifacts import workflow_lock
from rift.errors import RiftError


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on the PATH, with a command rift."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    program(folder / "rift", "")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the working directory of a workflow."""
    (tmp_path / "mine/.snakemake").mkdir(parents=True)
    return tmp_path / "mine"


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def queue(commands: Path, *jobs: str) -> None:
    """Let squeue list jobs."""
    lines = "\n".join(f"echo '{job}'" for job in jobs)
    program(commands / "squeue", lines)


def begin(place: Path, *, submits: bool = True) -> str:
    """Begin a run of the experiment ``mine``, and return its warnings."""
    told: list[str] = []
    held = workflow_lock.begin(place / ".snakemake", "mine", submits=submits, tell=told.append)
    assert held is not None
    held.close()
    return "\n".join(told)


def test_jobs_of_this_folder_that_an_earlier_run_left_are_named_with_what_to_do(
    commands: Path, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(place)
    queue(
        commands,
        f"12|{place}|rule_train_wildcards_runs/digits/resnet8/pgd/seed0",
        f"13|{tmp_path / 'link'}|rule_evaluate_ood_wildcards_base",
        f"14|{tmp_path}|rule_train_wildcards_other",
        f"15|{place}|(null)",
    )
    assert [job.number for job in cluster.queued_jobs(place)] == ["12", "13"]
    message = r"2 jobs .* \(train, evaluate_ood\)\. .*--jobs 12,13.*scancel 12 13"
    with pytest.raises(RiftError, match=message):
        begin(place)


def test_jobs_elsewhere_and_runs_without_slurm_do_not_matter(
    commands: Path, place: Path, tmp_path: Path
) -> None:
    assert begin(place) == ""
    queue(commands, f"14|{tmp_path}|rule_train_wildcards_other")
    assert begin(place) == ""
    queue(commands, f"12|{place}|rule_train_wildcards_x")
    assert begin(place, submits=False) == ""
    program(commands / "squeue", "exit 1")
    assert begin(place) == ""


def test_beside_a_living_run_of_another_experiment_jobs_may_be_its_own(
    commands: Path, place: Path
) -> None:
    queue(commands, f"12|{place}|rule_train_wildcards_x")
    other = place / ".snakemake/rift-other.json"
    other.write_text(json.dumps({}))
    with other.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "not those of the other run: 1 jobs" in begin(place)
    with pytest.raises(RiftError, match="scancel 12"):
        begin(place)


def test_without_the_command_rift_nothing_begins(commands: Path, place: Path) -> None:
    (commands / "rift").unlink()
    with pytest.raises(RiftError, match=r"would not find the command rift; activate"):
        begin(place, submits=False)
