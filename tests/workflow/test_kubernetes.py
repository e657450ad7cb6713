"""The profile for Kubernetes: its jobs are rendered, and run by a kubectl for tests."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.running import RUN, TINY, Configuration, Workflow

PROFILE = Path("workflow/profiles/kubernetes")
PLUGIN = "snakemake_executor_plugin_cluster_generic"
NEEDS_PLUGIN = pytest.mark.skipif(
    importlib.util.find_spec(PLUGIN) is None, reason="needs the extra kubernetes"
)
TRAINING: Configuration = {
    **TINY,
    "train": {"epochs": 6, "learning_rate": 0.05, "save_minutes": 0.0001},
}
BASE = RUN / "base.safetensors"


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """Return the folder of the jobs that kubectl knows."""
    folder = tmp_path / "kubectl"
    folder.mkdir()
    program = Path(__file__).with_name("kubectl.py")
    script = folder / "bin/kubectl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {program} {folder} "$@"\n')
    script.chmod(0o755)
    return folder


@pytest.fixture
def environment(jobs: Path, repository: Path) -> dict[str, str]:
    path = f"{jobs / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Tests may run a checkout that is not the one that is installed.
    return {**os.environ, "PATH": path, "PYTHONPATH": os.environ.get("PYTHONPATH", str(repository))}


@pytest.fixture
def workflow(repository: Path, tmp_path: Path, environment: dict[str, str]) -> Workflow:
    """Return an experiment's own folder, with a copy of the profile."""
    # A path whose characters mean something to YAML and to a shell.
    folder = tmp_path / "it's: {mine}"
    shutil.copytree(repository / PROFILE, folder / PROFILE)
    return Workflow(repository, folder, environment)


def call(workflow: Workflow, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROFILE / "jobs.py"), *words]
    return subprocess.run(
        command,
        cwd=workflow.folder,
        env=workflow.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def submitted(workflow: Workflow, jobs: Path, script: str = "job.sh") -> tuple[str, Any]:
    """Submit a job, and return its name and manifest."""
    what = "--rule evaluate_adversarial_shard --cpus 4 --memory-mb 16000 --gpus 2 --minutes 90"
    answer = call(workflow, "submit", *what.split(), script)
    assert answer.returncode == 0, answer.stderr
    name = answer.stdout.strip()
    path = jobs / f"{name.removeprefix('job.batch/')}.yaml"
    return name, yaml.safe_load(path.read_text())


def ended(workflow: Workflow, name: str) -> str:
    """Return the status of a job at its end."""
    while (status := call(workflow, "status", name).stdout.strip()) == "running":
        time.sleep(0.1)
    return status


def test_a_job_is_rendered_with_all_that_it_needs(workflow: Workflow, jobs: Path) -> None:
    (jobs / "no-nodes").touch()
    name, job = submitted(workflow, jobs, 'of $HOME, "quoted".sh')
    assert name == f"job.batch/{job['metadata']['name']}"
    # Names are those of hosts.
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", job["metadata"]["name"])
    assert job["metadata"]["labels"]["rule"] == "evaluate-adversarial-shard"
    assert job["spec"]["activeDeadlineSeconds"] == 5400
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": 4, "memory": "16000M"},
        "limits": {"memory": "16000M", "nvidia.com/gpu": 2},
    }
    assert container["workingDir"] == str(workflow.folder)
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["RIFT_JOB"] == str(workflow.folder / 'of $HOME, "quoted".sh')
    assert workflow.environment is not None
    assert variables["PATH"] == workflow.environment["PATH"]
    assert "$" not in re.sub(r"\$(!|status|RIFT_JOB|\?)", "", container["command"][-1])
    # It is not known before it runs: neither finished nor failed.
    assert call(workflow, "status", name).stdout == "running\n"


def test_the_status_is_that_of_the_script(workflow: Workflow, jobs: Path) -> None:
    (workflow.folder / "good.sh").write_text("exit 0\n")
    (workflow.folder / "bad.sh").write_text("exit 3\n")
    assert ended(workflow, submitted(workflow, jobs, "good.sh")[0]) == "success"
    assert ended(workflow, submitted(workflow, jobs, "bad.sh")[0]) == "failed"
    # A job that somebody deleted would otherwise be waited for without end.
    assert call(workflow, "status", "job.batch/gone").stdout == "failed\n"


def test_a_kubernetes_that_cannot_be_reached_fails_no_job(workflow: Workflow, jobs: Path) -> None:
    (jobs / "bin/kubectl").write_text("#!/bin/sh\necho 'connection refused' >&2\nexit 1\n")
    answer = call(workflow, "status", "job.batch/one")
    assert (answer.returncode, answer.stdout) == (0, "running\n")
    answer = call(workflow, "cancel", "job.batch/one")
    assert (answer.returncode, answer.stderr) == (1, "kubectl delete: connection refused\n")


def test_a_cancelled_job_ends_when_its_last_program_has_saved(
    workflow: Workflow, jobs: Path
) -> None:
    """Kubernetes sends SIGTERM to the first process only, and kills all when it has ended."""
    (workflow.folder / "job.sh").write_text(
        "(trap 'sleep 2; touch saved; exit 143' TERM; touch ready; while :; do sleep 0.1; done) &\n"
        "wait\n"
    )
    name, _ = submitted(workflow, jobs)
    wait_for(lambda: (workflow.folder / "ready").exists())
    subprocess.run(
        [PROFILE / "cancel", name], cwd=workflow.folder, env=workflow.environment, check=True
    )
    assert ended(workflow, name) == "failed"
    assert (workflow.folder / "saved").exists()
    assert (jobs / f"{name.removeprefix('job.batch/')}.end").read_text() == "143"


def wait_for(condition: Callable[[], object], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@NEEDS_PLUGIN
def test_a_dry_run_accepts_the_profile(workflow: Workflow) -> None:
    answer = workflow(TINY, "--dry-run", "--workflow-profile", str(PROFILE))
    assert answer.returncode == 0, answer.stdout + answer.stderr


@NEEDS_PLUGIN
@pytest.mark.long
def test_a_training_whose_pod_is_evicted_goes_on_in_another_one(
    workflow: Workflow, jobs: Path, tmp_path: Path
) -> None:
    """All but the cluster is real: Snakemake, the profile, the rendered command, the signal."""
    words = ["--workflow-profile", str(PROFILE), "--latency-wait", "10", str(BASE)]
    workflow.output = tmp_path / "snakemake.log"
    snakemake = workflow.start(TRAINING, *words)
    wait_for((workflow.folder / f"{BASE}.state").exists)
    (name,) = (path.stem for path in jobs.glob("rift-train-*.pid"))
    call(workflow, "cancel", f"job.batch/{name}")
    assert snakemake.wait(1200) == 0, workflow.output.read_text()
    log = workflow.folder / "results/tiny/logs" / RUN.relative_to("results/tiny") / "train.log"
    before, after = log.read_text().split("ended unfinished after")
    assert "stopped by SIGTERM" in before
    assert "continuing in epoch" in after
    assert len([*jobs.glob("rift-train-*.yaml")]) == 2
