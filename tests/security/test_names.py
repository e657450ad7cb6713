"""Names in a configuration reach no shell: the schema refuses them, or they arrive as they are.

The command ``rift`` only records its arguments and writes empty files.
"""

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rift import config
from rift.errors import RiftError
from tests.workflow.running import SMALL, Configuration, Workflow

COMMAND = f"""#!{sys.executable}
import json
import sys
from pathlib import Path

with open("arguments.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
words = sys.argv[1:]
for flag, value in zip(words, words[1:]):
    if flag in ("--output", "--history", "--manifest"):
        Path(value).touch()
"""
PAYLOADS = {
    "semicolon": "; touch was-run;",
    "substitution": "$(touch was-run)",
    "backticks": "`touch was-run`",
    "newline": "\ntouch was-run\n",
    "quotes": "'; touch was-run; '",
    "braces": "{input.data.__class__} {params}",
    "pipe": "| touch was-run #",
}


@pytest.fixture
def workflow(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/rift").write_text(COMMAND)
    (tmp_path / "bin/rift").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(repository))
    return Workflow(repository, tmp_path)


def with_grid(**keys: Any) -> Configuration:
    return {**SMALL, "grid": {**SMALL["grid"], **keys}}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_the_schema_refuses_names_that_a_shell_could_read(payload: str) -> None:
    for configuration in (
        {**SMALL, "experiment": f"small{payload}"},
        with_grid(datasets=[f"digits{payload}"]),
        with_grid(datasets=[f"arrays:mine{payload}"]),
        with_grid(datasets=[f"image-folder:mine{payload}"]),
        with_grid(datasets=[f"digits-0-4{payload}"]),
        with_grid(transfers=[f"digits-0-4-to-digits-5-9{payload}"]),
        with_grid(architectures=[f"resnet8{payload}"]),
        with_grid(architectures=[f"mynet:build{payload}"]),
        with_grid(architectures=[f"timm:resnet18{payload}"]),
        with_grid(regimes=[f"pgd{payload}"]),
        with_grid(scopes=[f"module-linear{payload}"]),
        {**SMALL, "report": {"tables": [f"main{payload}"]}},
    ):
        with pytest.raises(RiftError, match=r"config\.yaml: \d+ problem"):
            config.parse(configuration, "config.yaml")


def test_the_workflow_refuses_such_an_experiment_before_a_job(workflow: Workflow) -> None:
    answer = workflow({**SMALL, "experiment": PAYLOADS["substitution"]})
    assert answer.returncode == 1
    assert "String should match pattern" in answer.stdout + answer.stderr
    assert not (workflow.folder / "arguments.jsonl").exists()
    assert not (workflow.folder / "was-run").exists()


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_paths_and_keys_arrive_at_the_command_as_they_are(payload: str, workflow: Workflow) -> None:
    """They may be any text, so they are quoted."""
    # Snakemake reads braces in the path of a file as a wildcard, and refuses it.
    weights = f"mine{payload}.pth" if "{" not in payload else "mine.pth"
    (workflow.folder / weights).write_text("weights")
    configuration = {
        **SMALL,
        "base": [{"weights": weights, "normalization": "none", "key": f"key{payload}"}],
        "data": {"root": f"root{payload}"},
    }
    base = "results/small/runs/digits/resnet8/pgd/seed0/base.safetensors"
    answer = workflow(configuration, base)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not list(workflow.folder.rglob("was-run"))
    lines = (workflow.folder / "arguments.jsonl").read_text().splitlines()
    (words,) = [words for words in map(json.loads, lines) if words[0] == "import"]
    given = dict(pairwise(words))
    assert given["--weights"] == weights
    assert given["--key"] == f"key{payload}"


@pytest.mark.parametrize("name", ["substitution", "newline"])
def test_a_path_of_initial_weights_arrives_as_it_is(name: str, workflow: Workflow) -> None:
    weights = f"init{PAYLOADS[name]}.pth"
    (workflow.folder / weights).write_text("weights")
    configuration = {**SMALL, "train": {**SMALL["train"], "init": weights}}
    base = "results/small/runs/digits/resnet8/pgd/seed0/base.safetensors"
    answer = workflow(configuration, base)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not list(workflow.folder.rglob("was-run"))
    lines = (workflow.folder / "arguments.jsonl").read_text().splitlines()
    (words,) = [words for words in map(json.loads, lines) if words[0] == "train"]
    assert words[words.index("--train.init") + 1] == weights
