"""Logs of the attempts of a job, which Snakemake removes before every attempt."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ATTEMPT = """
import sys
from rift.commands.attempts import continue_log
continue_log()
print(sys.argv[1], end="")
sys.stdout.flush()
"""


def attempt(log: Path, text: str) -> None:
    """Run a job that prints a text, and then dies within the line."""
    log.unlink(missing_ok=True)
    with log.open("wb") as file:
        command = [sys.executable, "-c", ATTEMPT, text]
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT)


def test_a_log_begins_with_those_of_earlier_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "train.log"
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    attempt(log, "epoch 1")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    attempt(log, "epoch 2")
    attempt(log, "done")
    lines = log.read_text().splitlines()
    assert [lines[number] for number in (1, 3, 5)] == ["epoch 1", "epoch 2", "done"]
    when = r"-- \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d on \S+"
    assert re.fullmatch(when, lines[0])
    assert re.fullmatch(f"{when}, job 17", lines[2])
    assert len(lines) == 6


def test_only_logs_get_a_second_name(tmp_path: Path) -> None:
    attempt(tmp_path / "table.txt", "numbers")
    assert (tmp_path / "table.txt").read_text() == "numbers"
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]
