"""Jobs of a workflow share a pretended number of GPUs."""

import os
import re
from pathlib import Path

import pytest

from tests.workflow.running import SMALL, Workflow

pytestmark = pytest.mark.long

BASE = "results/small/runs/digits/resnet8/pgd/seed{seed}/base.safetensors"
LOG = "results/small/logs/runs/digits/resnet8/pgd/seed{seed}/train.log"


def test_two_trainings_at_a_time_get_a_gpu_each(repository: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(repository), "TMPDIR": str(tmp_path)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    workflow = Workflow(repository, tmp_path, environment)
    grid = {**SMALL["grid"], "seeds": [0, 1]}
    bases = [BASE.format(seed=seed) for seed in grid["seeds"]]
    answer = workflow({**SMALL, "grid": grid}, "--resources", "gpu=2", "--", *bases)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    logs = [(tmp_path / LOG.format(seed=seed)).read_text() for seed in grid["seeds"]]
    dealt = [re.findall(r"^GPU (\d) of 2$", log, re.MULTILINE) for log in logs]
    # The second training begins before the first one ends, unless the machine is very busy.
    assert sorted(dealt) in ([["0"], ["1"]], [["0"], ["0"]])


def test_without_a_limit_nothing_is_dealt(repository: Path, tmp_path: Path) -> None:
    # A number from outside, such as that of another workflow, has no effect.
    environment = {**os.environ, "PYTHONPATH": str(repository), "RIFT_GPUS": "7"}
    workflow = Workflow(repository, tmp_path, environment)
    base = BASE.format(seed=0)
    answer = workflow(SMALL, "--", base)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    log = (tmp_path / LOG.format(seed=0)).read_text()
    assert "GPU" not in log
