"""Which jobs run again after a change of a setting, of code, and of the version of a stage.

The command ``rift`` only writes empty files.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.workflow.running import SMALL, Workflow

COMMAND = f"""#!{sys.executable}
import sys
from pathlib import Path

words = sys.argv[1:]
OUTPUTS = "--output --history --manifest --sweep --choice --outcomes --lineage".split()
for flag, value in zip(words, words[1:]):
    if flag in OUTPUTS:
        for name in value.split(","):
            Path(name).touch()
            if name.endswith(".npy"):
                Path(name).with_suffix(".json").touch()
"""
AFTER_INTERPOLATION = {
    "evaluate_standard": 1,
    "evaluate_ood": 1,
    "evaluate_adversarial_shard": 1,
    "evaluate_adversarial": 1,
    "table": 1,
    "overview": 1,
}
AFTER_TRAINING = {
    "criticality_shard": 1,
    "criticality": 1,
    "finetune": 1,
    "interpolate": 1,
    **{name: 2 if name.startswith("evaluate") else 1 for name in AFTER_INTERPOLATION},
    "figure": 1,
}


@pytest.fixture(scope="module")
def workflow(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    folder = tmp_path_factory.mktemp("versions")
    (folder / "bin").mkdir()
    (folder / "bin/rift").write_text(COMMAND)
    (folder / "bin/rift").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(repository))
        workflow = Workflow(repository, folder)
        answer = workflow(SMALL)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return workflow


def counted(jobs: dict[str, int]) -> dict[str, int]:
    return {**jobs, "all": 1, "total": sum(jobs.values()) + 1}


def test_a_finished_experiment_runs_nothing(workflow: Workflow) -> None:
    assert workflow.jobs(SMALL) == {}


def test_a_changed_learning_rate_trains_again_and_all_that_follows(workflow: Workflow) -> None:
    changed = {**SMALL, "train": {**SMALL["train"], "learning_rate": 0.06}}
    assert workflow.jobs(changed) == counted({"train": 1, **AFTER_TRAINING})


def test_a_changed_learning_rate_of_fine_tuning_leaves_the_base(workflow: Workflow) -> None:
    changed = {**SMALL, "finetune": {**SMALL["finetune"], "learning_rate": 0.002}}
    after = {"finetune": 1, "interpolate": 1, **AFTER_INTERPOLATION}
    assert workflow.jobs(changed) == counted(after)


def test_a_raised_version_of_a_stage_reruns_it_and_says_why(
    workflow: Workflow, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from rift.artifacts import STAGE_VERSIONS\nSTAGE_VERSIONS['train'] = 2\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{repository}")
    assert workflow.jobs(SMALL) == counted({"train": 1, **AFTER_TRAINING})
    answer = workflow(SMALL, "--dry-run")
    output = answer.stdout + answer.stderr
    (job,) = re.findall(r"rule train:.*?\n\n", output, re.S)
    assert "Params have changed since last execution" in job
    assert "now: version 2 of train" in job.replace("'", "")


def test_a_changed_docstring_reruns_nothing(
    workflow: Workflow, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rift", "workflow"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / name, tmp_path / name, ignore=ignored)
    changed = 0
    for path in (*(tmp_path / "rift").rglob("*.py"), *(tmp_path / "workflow").rglob("*.smk")):
        text = path.read_text()
        edited = re.sub(r'^( *""")(?=[A-Z])', r"\1Slightly edited. ", text, flags=re.M)
        path.write_text(edited)
        changed += edited != text
    assert changed > 200
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert Workflow(tmp_path, workflow.folder).jobs(SMALL) == {}
