"""Checks of a workflow before its first job starts: the command ``rift``, and jobs left in Slurm.

A Snakemake that is killed cannot cancel the jobs that it submitted to Slurm. They work on, and
the same command would submit the same jobs again.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from rift.errors import RiftError

PATIENCE = 60
"""Seconds until a Slurm that does not answer is no longer asked."""


class QueuedJob(NamedTuple):
    """A job of a workflow in the queue of Slurm.

    Attributes:
        number: job number of Slurm.
        rule: name of the rule.
    """

    number: str
    rule: str


def check_command() -> None:
    """Check that jobs will find the command ``rift``.

    Raises:
        RiftError: they would not.
    """
    if shutil.which("rift") is None:
        raise RiftError(
            "jobs would not find the command rift; activate the environment that it is installed in"
            " (source .venv/bin/activate), and run the same command again"
        )


def queued_jobs(folder: Path) -> list[QueuedJob]:
    """Return the jobs that Snakemake submitted from a folder and that have not ended.

    The list is empty where Slurm does not answer: then nothing can be submitted either.

    Args:
        folder: working directory of the workflow.
    """
    # The plugin describes a job in its comment: rule_NAME, or rule_NAME_wildcards_VALUES.
    command = ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i|%Z|%k"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=PATIENCE
        )
    except (OSError, subprocess.SubprocessError):
        return []
    jobs = []
    for line in answer.stdout.splitlines():
        number, place, comment = (*line.split("|", 2), "", "")[:3]
        if comment.startswith("rule_") and os.path.realpath(place) == os.path.realpath(folder):
            rule = comment.removeprefix("rule_").partition("_wildcards_")[0]
            jobs.append(QueuedJob(number.strip(), rule))
    return jobs


def left_behind(jobs: list[QueuedJob]) -> str:
    """Return a message about jobs of an earlier run, which says what to do.

    Args:
        jobs: at least one job.
    """
    numbers = [job.number for job in jobs]
    rules = ", ".join(dict.fromkeys(job.rule for job in jobs))
    return (
        f"{len(jobs)} jobs of an earlier run in this folder are still in the queue of Slurm"
        f" ({rules}). Wait for their end (squeue --jobs {','.join(numbers)}), or stop them (scancel"
        f" {' '.join(numbers)}): long jobs save their state. Then run the same command again; what"
        " is finished or saved is not computed again."
    )
