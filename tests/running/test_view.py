"""Parts of the view of a run, without Snakemake: logs, events, and lines that fit."""

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest

from rift.progress import display, read_line
from rift.running.jobs import Failure, Job, Jobs
from rift.running.logs import LogProgress, last_lines
from rift.running.view import clock, job_line
from tests.running.terminal import Terminal

SHOW = """
import time
from rift.running.jobs import Job, Jobs
from rift.running.view import opened_view
with opened_view("mine") as view:
    for done in range(3):
        jobs = Jobs(total=2, done=done, running={1: Job("train", "seed0", [], "", 0)})
        view.planned(jobs)
        view.show(jobs, stopping=False)
        view.finished(jobs.running[1], jobs)
        time.sleep(0.3)
    view.warn("of two\\n\\x1b[31mlines")
    view.say("end", "bold red")
"""


def test_lines_of_progress_are_read_back(capfd: pytest.CaptureFixture[str]) -> None:
    with display("evaluate ood") as progress:
        progress(2.5, 30, "epoch 2: kept", loss=1.8041, accuracy=34.691)
    line = read_line(capfd.readouterr().err)
    assert line == ("evaluate ood", 2.5, 30, 0.0, "epoch 2: kept  loss 1.804  accuracy 34.69")
    for text in ("", "train: 31/30  1 s", "train: 1/0  1 s", "train: ././30  1 s", "at 3/4  2 s"):
        assert read_line(text) is None


def test_the_time_left_follows_from_the_pace_since_the_job_continued(tmp_path: Path) -> None:
    """A job that continued at epoch 20 of 30 did not compute 21 epochs in its first 2 seconds."""
    log = tmp_path / "train.log"
    progress = LogProgress(log, time.time())

    def read() -> tuple[float | None, float | None]:
        progress.read()
        return progress.fraction, progress.seconds_left

    assert read() == (None, None)
    log.write_text("computing on cpu\ntrain: 21/30  2 s  loss 1.8\ntrain: 22/3")
    assert read() == (21 / 30, None)
    with log.open("a") as file:
        file.write("0  6 s  loss 1.7\n\0\xff broken \x1b[2J\n")
    fraction, left = read()
    assert fraction == 22 / 30
    assert left == pytest.approx(8 * 4, abs=1)
    assert progress.last is not None
    assert progress.last.rest == "loss 1.7"
    log.write_text("again\n")
    assert read() == (None, None)


def test_logs_that_are_old_or_no_files_report_nothing(tmp_path: Path) -> None:
    log = tmp_path / "old.log"
    log.write_text("train: 21/30  2 s\n")
    os.utime(log, (1, 1))
    os.mkfifo(tmp_path / "pipe")
    for path in (log, tmp_path, tmp_path / "pipe"):
        progress = LogProgress(path, time.time())
        progress.read()
        assert progress.fraction is None
        assert path == log or last_lines(path, 3) == []


def test_a_log_of_gigabytes_is_not_read_as_a_whole(tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    with log.open("wb") as file:
        file.truncate(1 << 33)
        file.seek(0, os.SEEK_END)
        file.write(b"\ntrain: 3/4  2 s\n" + b"x" * 10_000 + b"\n")
    progress = LogProgress(log, time.time())
    began = time.monotonic()
    progress.read()
    assert progress.fraction == 3 / 4
    log.write_text("first\n\n" + "x" * 10_000 + "\r\x1b]0;title\x07\x1b[31mred\x1b[0m\ttab\n")
    assert [line[:10] for line in last_lines(log, 2)] == ["xxxxxxxxxx", "red tab"]
    assert max(map(len, last_lines(log, 2))) == 400
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140])
def test_the_line_of_a_job_fits_and_shows_what_is_most_important(
    width: int, tmp_path: Path
) -> None:
    log = tmp_path / "shard.log"
    progress = LogProgress(log, time.time())
    log.write_text("adversarial: 1/10  1 s\nadversarial: 2/10  2 s  accuracy 34.69\n")
    progress.read()
    job = Job("evaluate_adversarial_shard", "digits/resnet8/pgd/seed0 rift", [], "", 0.0)
    job.progress = progress
    text = job_line(job, 7, len(job.rule), len(job.about), width).plain
    assert len(text.rstrip()) <= max(width, 25)
    assert " 20%   0:07" in text
    assert ("0:08 left" in text) == (width >= 60)
    assert ("evaluate_adversarial_shard" in text) == (width >= 60)
    assert ("seed0 rift" in text) == (width >= 80)
    assert ("digits/resnet8" in text) == (width >= 100)
    assert ("accuracy 34.69" in text) == (width >= 140)


def test_a_job_that_is_tried_again_has_not_failed() -> None:
    jobs = Jobs()
    started = {"event": "started", "job": 4, "time": 10.0, "rule": "train", "wildcards": {}}
    started |= {"logs": [], "command": "rift train"}
    wildcards = {"run": "runs/a/b/c/seed0", "variant": "rift", "shard": "2", "shards": "3"}
    failed = {"event": "failed", "job": 4, "time": 15.0, "logs": [], "message": None}
    for text in ("other", "Command 'rift train' returned non-zero exit status 7."):
        jobs.take(json.dumps({"event": "error", "text": text, "time": 15.0}))
        jobs.take(json.dumps({**started, "wildcards": wildcards}))
    news = jobs.take(json.dumps(failed))
    assert isinstance(news, Failure)
    assert (news.job.name, news.job.seconds) == ("train a/b/c/seed0 rift 2/3", 5.0)
    assert news.reason == "exit status 7"
    assert jobs.errors == ["other"]
    jobs.take(json.dumps(started))
    assert not jobs.failed
    jobs.take(json.dumps({"event": "finished", "job": 4, "time": 20.0}))
    assert (jobs.done, jobs.running) == (1, {})


@pytest.mark.parametrize(
    ("variables", "moves", "colours"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, False, False)],
)
def test_terminals_without_colour_or_cursor_are_respected(
    variables: dict[str, str], moves: bool, colours: bool, repository: Path
) -> None:
    environment = {"PYTHONPATH": str(repository), **variables}
    terminal = Terminal([sys.executable, "-c", SHOW], repository, environment)
    terminal.wait()
    assert terminal.process.returncode == 0
    assert bool(terminal.screen.colours) == colours
    lines = terminal.screen.text.splitlines()
    if moves:
        assert lines == ["warning: of two lines", "end"]
        assert any("mine  1 of 2 jobs done  ━" in screen for screen in terminal.seen)
    else:
        assert [re.sub(r"  \d.*", "", line) for line in lines] == [
            "mine: 2 jobs to run",
            *(f"[{done}/2] train seed0" for done in range(3)),
            "warning: of two lines",
            "end",
        ]


def test_a_reader_that_goes_away_does_not_end_the_run(repository: Path) -> None:
    closed = f"import os, sys\nr, w = os.pipe(); os.close(r); sys.stderr = open(w, 'w')\n{SHOW}"
    program = [sys.executable, "-c", f"{closed}print('went on')"]
    terminal = Terminal(program, repository, {"PYTHONPATH": str(repository)})
    terminal.wait()
    assert terminal.screen.text.splitlines()[0] == "went on"


def test_times_are_written_as_clocks_show_them() -> None:
    assert [clock(seconds) for seconds in (0, 61.1, 3600, 90_061)] == [
        "0:00",
        "1:01",
        "1:00:00",
        "25:01:01",
    ]
