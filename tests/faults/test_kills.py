"""Jobs and Snakemake are killed in a real workflow.

It then ends in the bytes of a workflow that nobody disturbed.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.conftest import ONE_CORE, contents, differing
from tests.workflow.running import RUN, SMALL, Configuration, Workflow

pytestmark = pytest.mark.whole

STAGES = ("train", "criticality", "finetune", "interpolate", "evaluate ood", "evaluate adversarial")
BASE = Path("results/small") / RUN.relative_to("results/tiny") / "base.safetensors"
# States are saved after every batch, so that there is always one to continue from.
SAVING = {**SMALL, "train": {**SMALL["train"], "save_minutes": 0.0001}}
# As config/transfer-demo.yaml, with one method, and small.
TRANSFER: Configuration = {
    **SMALL,
    "experiment": "transfer",
    "grid": {
        **SMALL["grid"],
        "datasets": ["digits-0-4"],
        "transfers": ["digits-0-4-to-digits-5-9"],
        "methods": ["twins-at"],
    },
    "transfer": {
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 0.02,
        "init_head": "linear-probe",
        "probe_epochs": 2,
        "save_minutes": 0.0001,
    },
    "report": {"tables": ["transfer", "criticality"], "figures": ["training"]},
}
TRANSFERRED = Path("transfers/digits-0-4-to-digits-5-9/resnet8/twins-at/seed0")


def jobs(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbers of the processes of rift that work in a folder, each with its stage."""
    for process in Path("/proc").glob("[0-9]*"):
        # A process may end at any moment.
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            program = next((i for i, word in enumerate(words[:3]) if word.endswith("/rift")), None)
            if program is not None and (process / "cwd").readlink() == folder:
                yield int(process.name), " ".join(words[program + 1 : program + 3])


def wait_for_job(
    folder: Path, stages: Iterable[str], snakemake: "subprocess.Popen[str]"
) -> tuple[int, str]:
    """Return the number of the process of the first job of one of these stages, and its stage."""
    while snakemake.poll() is None:
        for process, words in jobs(folder):
            for stage in stages:
                if words.startswith(stage):
                    return process, stage
        time.sleep(0.02)
    raise AssertionError(f"none of {stages} ran: {snakemake.communicate()}")


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_job_of_every_long_stage_is_killed_and_the_tables_are_the_same(
    undisturbed: dict[str, bytes], repository: Path, tmp_path: Path
) -> None:
    workflow = Workflow(repository, tmp_path)
    snakemake = workflow.start(SAVING, *ONE_CORE, "--retries", "2", "--quiet", "all")
    remaining = set(STAGES)
    while remaining:
        process, stage = wait_for_job(tmp_path, remaining, snakemake)
        if stage == "train":
            wait_for(tmp_path / f"{BASE}.state", snakemake)
        else:
            # Somewhere between its first import and its last output.
            time.sleep(1)
        os.kill(process, signal.SIGKILL)
        remaining.remove(stage)
    output = snakemake.communicate()
    assert snakemake.returncode == 0, output
    assert differing(undisturbed, contents(tmp_path)) == []
    log = (tmp_path / "results/small/logs" / BASE.parent.relative_to("results/small")) / "train.log"
    assert "continuing in epoch" in log.read_text()


def test_a_transfer_is_killed_twice_and_the_tables_are_the_same(
    repository: Path, tmp_path: Path
) -> None:
    """It is killed within its linear probe, and again when all of its weights are trained."""
    undisturbed = Workflow(repository, tmp_path / "undisturbed")
    disturbed = Workflow(repository, tmp_path / "disturbed")
    for workflow in (undisturbed, disturbed):
        workflow.folder.mkdir()
    answer = undisturbed(TRANSFER, *ONE_CORE)
    assert answer.returncode == 0, answer.stdout + answer.stderr

    folder = disturbed.folder
    base = folder / "results/transfer" / TRANSFERRED / "base.safetensors"
    log = folder / "results/transfer/logs" / TRANSFERRED / "transfer.log"
    snakemake = disturbed.start(TRANSFER, *ONE_CORE, "--retries", "2", "--quiet", "all")
    first, _ = wait_for_job(folder, ["transfer"], snakemake)
    wait_for(base.with_name(f"{base.name}.state"), snakemake)
    os.kill(first, signal.SIGKILL)
    while (second := wait_for_job(folder, ["transfer"], snakemake)[0]) == first:
        time.sleep(0.02)
    while not (log.exists() and "transfer: 1/6" in log.read_text()):
        assert snakemake.poll() is None, snakemake.communicate()
        time.sleep(0.02)
    os.kill(second, signal.SIGKILL)
    output = snakemake.communicate()
    assert snakemake.returncode == 0, output
    _, first_time, second_time = log.read_text().split("ended unfinished after")
    assert "continuing in linear probe: epoch 1" in first_time
    assert "continuing in " in second_time
    assert "probe" not in second_time
    before = contents(undisturbed.folder, "transfer")
    assert f"{TRANSFERRED}/base.safetensors" in before
    assert differing(before, contents(folder, "transfer")) == []


def test_snakemake_is_killed_hung_up_and_stopped_and_the_tables_are_the_same(
    undisturbed: dict[str, bytes], repository: Path, tmp_path: Path
) -> None:
    """SIGKILL leaves an orphan, which the next run waits for."""
    workflow = Workflow(repository, tmp_path)
    snakemake = workflow.start(SAVING, *ONE_CORE, "--quiet", "all")
    orphan, _ = wait_for_job(tmp_path, ["train"], snakemake)
    wait_for(tmp_path / f"{BASE}.state", snakemake)
    snakemake.kill()
    # Its pipes stay open as long as the orphan lives.
    snakemake.wait()
    assert orphan in dict(jobs(tmp_path))

    snakemake = workflow.start(SAVING, *ONE_CORE, "--quiet", "all")
    wait_for_job(tmp_path, ["criticality"], snakemake)
    # The new run waited for the orphan's end.
    assert orphan not in dict(jobs(tmp_path))
    snakemake.send_signal(signal.SIGHUP)
    snakemake.wait()

    snakemake = workflow.start(SAVING, *ONE_CORE, "--quiet", "all")
    job, _ = wait_for_job(tmp_path, ["evaluate adversarial"], snakemake)
    time.sleep(1)
    os.kill(job, signal.SIGTERM)
    snakemake.communicate()
    assert snakemake.returncode == 1

    answer = workflow(SAVING, *ONE_CORE)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert differing(undisturbed, contents(tmp_path)) == []
