"""Logs of the attempts of a job, which Snakemake removes before every attempt."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rift.artifacts.attempts import ADOPTED, earlier_seconds

ATTEMPT = """
import signal, sys, time
from rift.commands import attempts
attempts.PULSE = 0.1
with attempts.logged_attempt():
    print(sys.argv[1], end="", flush=True)
    if "die" in sys.argv[1]:
        time.sleep(1)
        signal.raise_signal(signal.SIGKILL)
    if "fail" in sys.argv[1]:
        sys.exit(3)
"""


def attempt(log: Path, text: str) -> int:
    """Run a job that prints a text without an end of line, and return its exit status."""
    log.unlink(missing_ok=True)
    with log.open("wb") as file:
        command = [sys.executable, "-c", ATTEMPT, text]
        answer = subprocess.run(command, check=False, stdout=file, stderr=subprocess.STDOUT)
    return answer.returncode


def test_a_log_begins_with_those_of_earlier_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "train.log"
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert attempt(log, "epoch 1, die") == -signal.SIGKILL
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert attempt(log, "epoch 2, fail") == 3
    assert attempt(log, "done\n") == 0
    lines = log.read_text().splitlines()
    assert [lines[number] for number in (1, 4, 7)] == ["epoch 1, die", "epoch 2, fail", "done"]
    when = r"-- \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d on \S+"
    assert re.fullmatch(when, lines[0])
    assert re.fullmatch(f"{when}, job 17", lines[3])
    for number in (2, 5):
        assert re.fullmatch(r"ended unfinished after \d+\.\d s", lines[number])
    assert re.fullmatch(r"finished after \d+\.\d s", lines[8])
    assert len(lines) == 9


def test_the_seconds_of_a_killed_attempt_end_with_its_last_sign_of_life(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    attempt(log, "die")
    # The time until the next attempt is not that of a job.
    time.sleep(2.5)
    attempt(log, "done\n")
    # The date of the begin has no fractions.
    assert 0.7 < earlier_seconds(log) < 2.5


def written(folder: Path, *bodies: str) -> Path:
    """Write a log of several attempts."""
    log = folder / "train.log"
    begin = "-- 2026-02-03T04:05:06+00:00 on node7, job 42\n"
    log.write_text("".join(f"{begin}{body}\n" for body in bodies))
    return log


@pytest.mark.parametrize(
    ("bodies", "seconds"),
    [
        (["finished after 5.0 s"], 0),
        (["ended unfinished after 3.5 s", "finished after 5.0 s"], 3.5),
        # Snakemake computed finished outputs again: nothing before belongs to them.
        (["ended unfinished after 9.0 s", "finished after 5.0 s", "finished after 2.0 s"], 0),
        (["finished after 5.0 s", "ended unfinished after 1.5 s", "finished after 2.0 s"], 1.5),
        # The job of a killed Snakemake finished, and the next one adopted its outputs.
        (
            [
                "ended unfinished after 9.0 s",
                "finished after 5.0 s",
                f"{ADOPTED}\nfinished after 2 s",
            ],
            14,
        ),
        # A log of rift 0.1 has no seconds.
        (["epoch 1", "epoch 2"], 0),
    ],
)
def test_attempts_count_that_worked_on_the_same_outputs(
    bodies: list[str], seconds: float, tmp_path: Path
) -> None:
    assert earlier_seconds(written(tmp_path, *bodies)) == seconds


def test_only_logs_get_a_second_name(tmp_path: Path) -> None:
    attempt(tmp_path / "table.txt", "numbers")
    assert (tmp_path / "table.txt").read_text() == "numbers"
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]
