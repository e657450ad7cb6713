"""Jobs of a workflow share a pretended number of GPUs."""

import os
import re
from datetime import datetime
from pathlib import Path

import pytest

from rift.artifacts.attempts import attempts_in
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
    (first,), (second,) = dealt
    assert {first, second} <= {"0", "1"}
    if first == second:
        # Only if one began when the other had ended; dates are in whole seconds.
        (one,), (two,) = (attempts_in(log) for log in logs)
        early, late = sorted((one, two), key=lambda attempt: attempt.begin)
        apart = datetime.fromisoformat(late.begin) - datetime.fromisoformat(early.begin)
        assert early.seconds is not None
        assert apart.total_seconds() > early.seconds - 2


def test_without_a_limit_nothing_is_dealt(repository: Path, tmp_path: Path) -> None:
    # A number from outside, such as that of another workflow, has no effect.
    environment = {**os.environ, "PYTHONPATH": str(repository), "RIFT_GPUS": "7"}
    workflow = Workflow(repository, tmp_path, environment)
    base = BASE.format(seed=0)
    answer = workflow(SMALL, "--", base)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    log = (tmp_path / LOG.format(seed=0)).read_text()
    assert "GPU" not in log
