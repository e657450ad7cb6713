"""An experiment with an architecture from outside."""

from pathlib import Path

import yaml

from tests.models.test_outside import SOURCE
from tests.workflow.running import TINY, Configuration, Workflow

GRID = {**TINY["grid"], "architectures": ["mynet:build"], "scopes": ["rift"]}
OWN: Configuration = {**TINY, "grid": GRID}


def test_a_missing_file_is_named_and_the_file_is_an_input(repository: Path, tmp_path: Path) -> None:
    workflow = Workflow(repository, tmp_path)
    answer = workflow(OWN, "--dry-run")
    assert answer.returncode != 0
    said = answer.stdout + answer.stderr
    assert "mynet:build: the working directory" in said
    assert "Traceback" not in said

    (tmp_path / "mynet.py").write_text(SOURCE)
    base = "results/tiny/runs/digits/mynet:build/pgd/seed0/base.safetensors"
    answer = workflow(OWN, base, "--dry-run")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "mynet.py" in answer.stdout + answer.stderr
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == OWN
