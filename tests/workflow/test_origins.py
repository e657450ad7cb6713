"""Bases whose source changes, and a Snakemake that is killed.

The command ``rift`` only writes empty artifacts.
"""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from rift import artifacts
from rift.data.raw import RawDigests, raw_files
from tests.workflow.running import RUN, TINY, Configuration, Workflow

COMMAND = f"""#!{sys.executable}
import sys
import time
from pathlib import Path
import numpy as np
from rift import artifacts

stage, *words = sys.argv[1:]
Path("begun").touch()
while Path("wait").exists():
    time.sleep(0.05)
given = dict(zip(words, words[1:]))
inputs = {{}}
if stage == "import":
    inputs["weights"] = artifacts.content_digest(Path(given["--weights"]))
source = artifacts.provenance(stage, {{}}, inputs=inputs)
for flag, value in given.items():
    if flag in ("--output", "--history", "--manifest"):
        path = Path(value)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            artifacts.write_arrays(path, {{"weight": np.zeros(1)}}, source)
        else:
            path.write_text(stage)
"""
BASE = str(RUN / "base.safetensors")
IMPORTED: Configuration = {**TINY, "base": [{"weights": "mine.pth", "normalization": "none"}]}


@pytest.fixture
def workflow(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "rift").write_text(COMMAND)
    (folder / "rift").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(repository))
    (tmp_path / "mine.pth").write_text("weights")
    return Workflow(repository, tmp_path)


def made_by(workflow: Workflow, configuration: Configuration) -> str:
    """Make the base, and return the stage that made the file that is there then."""
    answer = workflow(configuration, BASE)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    source = artifacts.read_facts(workflow.folder / BASE)["provenance"]
    return str(source["stage"])


def test_a_base_follows_its_source_from_training_to_import_and_back(workflow: Workflow) -> None:
    assert made_by(workflow, TINY) == "train"
    assert made_by(workflow, IMPORTED) == "import"
    before = (workflow.folder / BASE).stat().st_mtime_ns
    assert made_by(workflow, IMPORTED) == "import"
    assert (workflow.folder / BASE).stat().st_mtime_ns == before
    assert made_by(workflow, TINY) == "train"


def test_replaced_weights_with_an_older_date_are_imported_again(workflow: Workflow) -> None:
    made_by(workflow, IMPORTED)
    weights = workflow.folder / "mine.pth"
    weights.write_text("other weights")
    os.utime(weights, (0, 0))
    made_by(workflow, IMPORTED)
    source = artifacts.read_facts(workflow.folder / BASE)["provenance"]
    assert source["inputs"]["weights"] == artifacts.content_digest(weights)


def test_a_changed_source_is_named_in_a_dry_run_which_changes_nothing(workflow: Workflow) -> None:
    made_by(workflow, TINY)
    result = RUN / "evaluation/base/standard.json"
    answer = workflow(IMPORTED, "--dry-run", "--", str(result))
    assert "rule import_base" in answer.stdout + answer.stderr
    assert artifacts.read_facts(workflow.folder / BASE)["provenance"]["stage"] == "train"


def test_a_base_without_provenance_is_left_alone(workflow: Workflow) -> None:
    (workflow.folder / BASE).parent.mkdir(parents=True)
    (workflow.folder / BASE).write_bytes(b"not a safetensors file")
    assert workflow(TINY, "--dry-run", "--", BASE).returncode == 0


def test_a_set_whose_raw_files_changed_is_prepared_again(workflow: Workflow) -> None:
    raw, prepared = workflow.folder / "raw", "results/tiny/data/cifar10/prepared.safetensors"
    configuration = {
        **TINY,
        "grid": {"datasets": ["cifar10"], "architectures": ["resnet18"]},
        "data": {"root": str(raw)},
    }
    batch = raw / "cifar-10-batches-py/test_batch"
    batch.parent.mkdir(parents=True)
    batch.write_text("images")
    assert workflow(configuration, prepared).returncode == 0
    digest = RawDigests()(raw_files("cifar10", raw))
    manifest = (workflow.folder / prepared).with_name("manifest.json")
    manifest.write_text(json.dumps({"raw": digest}))
    answer = workflow(configuration, "--dry-run", "--", prepared)
    assert "Nothing to be done" in answer.stdout + answer.stderr
    batch.write_text("other images")
    answer = workflow(configuration, prepared)
    assert "cifar10 has changed since; it is made again" in answer.stderr, answer.stderr
    assert manifest.read_text() == "prepare"


def test_an_edit_of_an_own_architecture_trains_again(workflow: Workflow) -> None:
    configuration = {**TINY, "grid": {**TINY["grid"], "architectures": ["mynet:build"]}}
    base = BASE.replace("resnet8", "mynet:build")
    code = workflow.folder / "mynet.py"
    code.write_text("one")
    assert workflow(configuration, base).returncode == 0
    answer = workflow(configuration, "--dry-run", "--", base)
    assert "Nothing to be done" in answer.stdout + answer.stderr
    code.write_text("another")
    answer = workflow(configuration, "--dry-run", "--", base)
    assert "rule train" in answer.stdout + answer.stderr


def test_after_snakemake_was_killed_the_same_command_goes_on(workflow: Workflow) -> None:
    folder = workflow.folder
    (folder / "wait").touch()
    killed = workflow.start(TINY, BASE)
    while not (folder / "begun").exists():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.05)
    beside = workflow(TINY, BASE)
    assert beside.returncode == 1
    assert "LockException" in beside.stdout + beside.stderr
    killed.kill()
    killed.wait()
    assert list((folder / ".snakemake/locks").iterdir())
    (folder / "wait").unlink()
    answer = workflow(TINY, BASE)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "The Snakemake process before this one was killed" in answer.stderr, answer.stderr
    assert (folder / BASE).exists()
