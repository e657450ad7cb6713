"""A run in pieces of limited time, each on another machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.slurm.running import differing
from tests.workflow.running import SMALL, Configuration, Workflow

# Long enough for several pieces, with a state in each.
PIECES: Configuration = {
    **SMALL,
    "experiment": "pieces",
    "train": {"epochs": 20, "learning_rate": 0.05},
}
PACK = (
    "tar --create --gzip --exclude='*.previous' --exclude='results/*/data' results .snakemake"
    " | split --bytes=16M - {}/piece-"
)


@pytest.mark.whole
def test_pieces_that_are_carried_from_folder_to_folder_end_in_the_same_bytes(
    repository: Path, tmp_path: Path
) -> None:
    """As docs/running.md says. Data are prepared again on each machine: they are not carried."""
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    answer = Workflow(repository, undisturbed)(PIECES, "--cores", "1")
    assert answer.returncode == 0, answer.stdout + answer.stderr

    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-m", "rift", "run", "pieces.yaml", "--cores", "1"]
    statuses: list[int] = []
    states: list[bool] = []
    while not statuses or statuses[-1] != 0:
        machine = tmp_path / f"machine{len(statuses)}"
        machine.mkdir()
        (machine / "pieces.yaml").write_text(yaml.safe_dump(PIECES))
        carried = sorted((tmp_path / "carried").glob("piece-*"))
        if carried:
            content = b"".join(path.read_bytes() for path in carried)
            subprocess.run(["tar", "--extract", "--gzip"], input=content, cwd=machine, check=True)
        # A busy machine may need a minute for what an idle one does in seconds.
        last = ["--time", "15s"] if len(statuses) < 3 else []
        ended = subprocess.run([*command, *last], cwd=machine, env=environment, check=False)
        statuses.append(ended.returncode)
        states.append(any(machine.rglob("base.safetensors.state")))
        for path in carried:
            path.unlink()
        (tmp_path / "carried").mkdir(exist_ok=True)
        pack = PACK.format("../carried")
        subprocess.run(["bash", "-o", "pipefail", "-c", pack], cwd=machine, check=True)
        assert len(statuses) < 5
    assert set(statuses[:-1]) == {124}
    assert any(states)
    results = Path("results/pieces")
    (log,) = (machine / results / "logs").rglob("train.log")
    assert "continuing in epoch" in log.read_text()
    assert differing(machine / results, undisturbed / results) == []
