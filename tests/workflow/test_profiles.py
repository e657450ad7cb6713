"""The resources of jobs, and the profiles that are shipped, in dry runs."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.running import TINY, Configuration, Workflow

FOUR_PROCESSES: Configuration = {**TINY, "train": {**TINY["train"], "processes": 4}}


@pytest.fixture
def workflow(repository: Path, tmp_path: Path) -> Workflow:
    return Workflow(repository, tmp_path)


def planned(workflow: Workflow, configuration: Configuration, *words: str) -> dict[str, str]:
    """Return the text of a job of each rule in a dry run."""
    answer = workflow(configuration, "--dry-run", "--printshellcmds", *words)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    blocks = re.split(r"^(rule|localrule) ", answer.stdout + answer.stderr, flags=re.MULTILINE)
    return {
        text.partition(":")[0]: f"{kind} {text}"
        for kind, text in zip(blocks[1::2], blocks[2::2], strict=True)
    }


def value(job: str, name: str) -> str:
    (found,) = re.findall(rf"\b{name}[=:] ?([^,\s]+)", job)
    return str(found)


@pytest.mark.parametrize(("attempt", "memory"), [("1", "8000"), ("2", "16000"), ("4", "16000")])
def test_a_second_attempt_gets_more_memory_and_later_ones_no_more(
    attempt: str, memory: str, workflow: Workflow
) -> None:
    jobs = planned(workflow, TINY, "--attempt", attempt)
    assert value(jobs["train"], "mem_mb") == memory
    assert int(value(jobs["criticality_shard"], "mem_mb")) > int(memory) / 2


def test_processes_have_cpus_and_need_no_gpus(workflow: Workflow) -> None:
    words = ("--cores", "8")
    job = planned(workflow, FOUR_PROCESSES, *words)["train"]
    assert (value(job, "threads"), value(job, "gpu")) == ("4", "4")
    job = planned(workflow, FOUR_PROCESSES, *words, "--set-resources", "train:gpu=0")["train"]
    assert (value(job, "threads"), value(job, "gpu")) == ("4", "0")
    assert "--train.processes 4 " in job


def test_the_program_takes_the_place_of_its_shell(workflow: Workflow) -> None:
    """A signal to all processes of a job would end the shell, and with it the job."""
    for rule, job in planned(workflow, TINY).items():
        if rule != "all":
            assert re.search(r"^ *(Shell command: )?exec rift ", job, re.MULTILINE), job


@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="needs the extra slurm",
)
def test_the_profile_for_slurm_describes_its_jobs(workflow: Workflow) -> None:
    profile = str(workflow.repository / "workflow/profiles/slurm")
    jobs = planned(workflow, FOUR_PROCESSES, "--cores", "16", "--workflow-profile", profile)
    for rule, job in jobs.items():
        assert rule == "all" or value(job, "nodes") == "1"
    for rule in ("train", "finetune", "evaluate_adversarial_shard"):
        assert "slurm_extra=--signal=TERM@120" in jobs[rule]
    assert value(jobs["prepare"], "threads") == "4"
    assert value(jobs["train"], "threads") == "4"


@pytest.fixture(scope="module")
def options() -> set[str]:
    """Return the options of Snakemake and of the plugins that are installed."""
    command = [sys.executable, "-m", "snakemake", "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(re.findall(r"--([a-z][a-z0-9-]+)", answer.stdout))


@pytest.mark.parametrize("name", ["default", "slurm", "kubernetes"])
def test_a_profile_contains_only_options_that_exist(
    name: str, options: set[str], repository: Path
) -> None:
    (path,) = (repository / "workflow/profiles" / name).glob("profile.yaml")
    profile = yaml.safe_load(path.read_text())
    executor = profile.get("executor", "local")
    keys = set(profile)
    if not importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}"):
        keys = {key for key in keys if not key.startswith(f"{executor}-")}
    assert keys - options == set()
