"""``rift run``: what a user sees on a terminal and in a pipe, with real Snakemake workflows."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rift.commands.experiment import Init
from tests.running.terminal import Terminal
from tests.workflow.running import TINY

COMMAND = [sys.executable, "-m", "rift", "run"]

TWO_JOBS = """
rule all:
    input: expand("out/{run}/{scope}", run="runs/digits/resnet8/pgd/seed0", scope=["rift", "top2"])

rule finetune:
    output: "out/{run}/{scope}"
    log: "logs/{run}/{scope}.log"
    shell:
        "(echo stray > /dev/tty) 2> /dev/null || true; echo stray; for i in 2 4 6; do"
        " echo 'finetune: '$i'/8  '$i' s  loss 1.80'$i; sleep 1; done > {log} 2>&1; touch {output}"
"""

FAILURES = """
rule all:
    input: "good", "bad", "quiet", "binary", "missing"

rule good:
    output: "good"
    shell: "sleep 1; touch {output}"

rule bad:
    output: "bad"
    log: "logs/bad.log"
    shell:
        "(seq 1 20; printf 'rift: error: the \\\\033[31mloss\\\\033[0m is not finite\\\\n'; exit 3)"
        " > {log} 2>&1"

rule quiet:
    output: "quiet"
    log: "logs/quiet.log"
    shell: "kill -9 $$"

rule binary:
    output: "binary"
    log: "logs/binary.log"
    shell: "head -c 1000 /dev/zero > {log}; exit 4"

rule missing:
    output: "missing"
    shell: "true"
"""

LONG = """
rule all:
    input: "never"

rule long:
    output: "never"
    log: "logs/long.log"
    shell: "(echo 'train: 1/8  1 s'; exec sleep 60) > {log} 2>&1"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of an experiment."""
    Init(folder=tmp_path / "mine").run()
    return tmp_path / "mine"


@pytest.fixture
def environment(repository: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repository)}


def in_pipe(
    folder: Path, environment: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def full_output(folder: Path, said: str) -> str:
    """Return the full output of Snakemake, from the file that the last line names."""
    match = re.search(r"full output: (.*\.log)\s*$", said)
    assert match is not None, said
    return (folder / match[1]).read_text()


def test_on_a_terminal_running_jobs_show_their_progress(
    folder: Path, environment: dict[str, str]
) -> None:
    """The terminal becomes narrow while jobs are running. Nothing but the view writes to it."""
    (folder / "workflow/Snakefile").write_text(TWO_JOBS)
    terminal = Terminal([*COMMAND, "--cores", "2"], folder, environment, columns=100)
    assert terminal.wait(lambda text: text.count(" left   loss") == 2), terminal.screen.text
    head, *jobs, hint = terminal.screen.text.splitlines()
    assert re.fullmatch(r"demo  0 of 3 jobs done  ━+  0:\d\d", head)
    for job, scope in zip(sorted(jobs), ("rift", "top2"), strict=True):
        expected = (
            rf"  finetune  digits/resnet8/pgd/seed0 {scope}   [57]\d%   0:\d\d  0:0\d left .*"
        )
        assert re.fullmatch(expected, job), job
    assert hint == "  Ctrl-C stops; the same command continues"
    assert not terminal.screen.cursor_visible
    assert terminal.screen.colours

    terminal.resize(40, 24)
    before = len(terminal.seen)
    assert terminal.wait(lambda text: "full output" in text)
    terminal.wait()
    for screen in terminal.seen[before + 2 :]:
        assert max(len(row) for row in screen.splitlines()) <= 40, screen
    said = terminal.screen.text
    assert terminal.process.returncode == 0
    assert re.match(r"3 jobs done in 0:\d\d\nreport: results/demo/report.html\nfull", said), said
    assert terminal.screen.cursor_visible
    assert (folder / "results/demo/report.html").exists()
    output = full_output(folder, said.replace("\n", "").replace("full", "\nfull"))
    assert output.splitlines().count("stray") == 2
    assert "3 of 3 steps (100%) done" in output

    again = in_pipe(folder, environment)
    assert again.returncode == 0
    assert again.stdout.startswith("nothing to do: all results are up to date\nreport: "), again
    listed = in_pipe(folder, environment, "--snakemake=--dry-run --forceall")
    assert re.search(r"^finetune +2$", listed.stdout, re.M), listed.stdout
    assert "report: " not in listed.stdout


def test_in_a_pipe_failures_show_the_end_of_their_logs(
    folder: Path, environment: dict[str, str]
) -> None:
    (folder / "workflow/Snakefile").write_text(FAILURES)
    answer = in_pipe(folder, environment, "--cores", "2", "--snakemake=--latency-wait 1")
    said = answer.stdout
    assert answer.returncode == 1, said
    assert "\x1b" not in said
    first, *lines = said.splitlines()
    assert first == "demo: 6 jobs to run"
    assert [re.sub(r"\d:\d\d", "TIME", line) for line in lines if line.startswith("[")] == [
        "[1/6] good  TIME"
    ]
    blocks = dict(re.findall(r"^failed after 0:\d\d: (\w+)(.*\n(?:  .*\n)*)", said, re.M))
    assert set(blocks) == {"bad", "quiet", "binary", "missing"}, said
    numbers = "".join(f"    {number}\n" for number in range(12, 21))
    error = "    rift: error: the loss is not finite\n"
    assert blocks["bad"] == f": exit status 3\n{numbers}{error}  log: logs/bad.log\n"
    assert blocks["binary"] == ": exit status 4\n  log: logs/binary.log\n"
    assert re.fullmatch(r": (killed by SIGKILL|exit status 137)\n.*", blocks["quiet"], re.S)
    assert "some output files are missing" in blocks["missing"]
    assert re.search(r"^4 jobs failed, 1 of 6 jobs done in 0:\d\d$", said, re.M), said
    assert "At least one job did not complete" not in said
    assert "At least one job did not complete" in full_output(folder, said)


def test_errors_of_snakemake_are_said(folder: Path, environment: dict[str, str]) -> None:
    (folder / "workflow/Snakefile").write_text('rule all:\n    input: "nothing.txt"\n')
    answer = in_pipe(folder, environment)
    assert answer.returncode == 1
    message, _ = answer.stdout.split("full output: ")
    assert message.startswith("error: MissingInputException in rule all"), message
    assert "nothing.txt" in message
    assert len(message.splitlines()) < 8
    wrong = in_pipe(folder, environment, "--snakemake=--no-such-option")
    assert wrong.returncode == 2
    assert "    snakemake: error: unrecognized arguments: --no-such-option\nfull" in wrong.stdout
    assert len(wrong.stdout.splitlines()) == 3
    open_quote = in_pipe(folder, environment, "--snakemake='a")
    assert "close every quotation mark" in open_quote.stdout
    raw = in_pipe(folder, environment, "--raw", "true")
    assert raw.returncode == 1
    assert "Building DAG of jobs..." in raw.stdout
    assert "full output" not in raw.stdout


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stopped_run_ends_cleanly_and_says_how_to_go_on(
    name: str, folder: Path, environment: dict[str, str]
) -> None:
    (folder / "workflow/Snakefile").write_text(LONG)
    terminal = Terminal(COMMAND, folder, environment)
    assert terminal.wait(lambda text: "long" in text)
    terminal.process.send_signal(signal.Signals[name])
    terminal.wait(seconds=40)
    assert terminal.process.returncode != 0
    said = terminal.screen.text
    expected = (
        r"stopped after 0:\d\d, 0 of 2 jobs done\n"
        r"the same command continues; finished jobs are kept\n"
        r"full output: results/demo/logs/run-[\dT-]+\.log"
    )
    assert re.fullmatch(expected, said), said
    assert any("stopping; running jobs save their state" in screen for screen in terminal.seen)
    assert terminal.screen.cursor_visible


@pytest.mark.whole
@pytest.mark.parametrize("raw", ["false", "true"])
def test_a_run_whose_time_is_over_stops_its_jobs_and_exits_with_a_status_of_its_own(
    raw: str, folder: Path, environment: dict[str, str]
) -> None:
    job = f"sleep 300.{os.getpid()}{len(raw)}"  # a name of its own, to look for
    (folder / "workflow/Snakefile").write_text(LONG.replace("sleep 60", job))
    begin = time.monotonic()
    answer = in_pipe(folder, environment, "--time", "25s", "--raw", raw)
    assert 25 <= time.monotonic() - begin < 90
    assert answer.returncode == 124, answer.stdout
    if raw == "false":
        assert "stopped after 0:" in answer.stdout
        assert "the same command continues" in answer.stdout
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert job not in running.stdout


def test_a_time_that_is_none_is_refused(folder: Path, environment: dict[str, str]) -> None:
    answer = in_pipe(folder, environment, "--time", "10")
    assert answer.returncode == 2
    assert "must be a number with its unit, such as 90s, 30m or 2h" in answer.stdout


@pytest.mark.whole
def test_a_whole_experiment_runs_with_the_view(folder: Path, environment: dict[str, str]) -> None:
    (folder / "config/config.yaml").write_text(yaml.safe_dump(TINY))
    shutil.rmtree(folder / "results", ignore_errors=True)
    terminal = Terminal(COMMAND, folder, environment, columns=120)
    terminal.wait(seconds=1200)
    said = terminal.screen.text
    assert terminal.process.returncode == 0, said
    assert re.match(r"\d+ jobs done in \d+:\d\d\nreport: results/tiny/report.html\n", said), said
    assert len(said.splitlines()) == 3
    assert any(
        re.search(r"evaluate_adversarial_shard  digits/resnet8/pgd/seed0 \w", screen)
        for screen in terminal.seen
    )
    assert (folder / "results/tiny/report.html").exists()
    assert "rift train --data" in full_output(folder, said)
