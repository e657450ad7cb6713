"""The workflow without results: shipped configurations, refusals and code style."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from rift import artifacts
from rift.config import RegimeName
from tests.workflow.running import TINY, Configuration, Workflow


def shipped(repository: Path, name: str) -> Configuration:
    configuration: Configuration = yaml.safe_load((repository / f"config/{name}.yaml").read_text())
    return configuration


def test_without_a_file_the_whole_grid_of_the_paper_would_be_run(repository: Path) -> None:
    words = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "all", "--nolock"]
    answer = subprocess.run(words, cwd=repository, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_grid_of_the_second_table_is_what_would_be_run(
    repository: Path, tmp_path: Path
) -> None:
    jobs = Workflow(repository, tmp_path).jobs(shipped(repository, "regimes"))
    assert (jobs["train"], jobs["finetune"], jobs["table"]) == (2 * 5 * 3, 2 * 5 * 3, 3)


def test_the_demo_of_transfers_runs_every_stage_for_every_method(
    repository: Path, tmp_path: Path
) -> None:
    jobs = Workflow(repository, tmp_path).jobs(shipped(repository, "transfer-demo"))
    assert (jobs["prepare"], jobs["train"], jobs["transfer"]) == (2, 1, 4)
    for stage in ("criticality", "finetune", "interpolate"):
        assert jobs[stage] == 5
    assert jobs["figure"] == 5 + 2 * 3
    assert jobs["evaluate_standard"] == jobs["evaluate_ood"] == jobs["evaluate_adversarial"] == 10


def test_the_experiment_of_twins_imports_a_base_and_transfers_it_to_five_targets(
    repository: Path, tmp_path: Path
) -> None:
    jobs = Workflow(repository, tmp_path).jobs(shipped(repository, "transfer"))
    assert (jobs["prepare"], jobs["import_base"], jobs["transfer"]) == (5, 3, 5 * 4 * 3)
    assert "train" not in jobs
    assert jobs["finetune"] == jobs["criticality"] == 60


def test_figures_of_twins_wait_for_the_baseline_too(repository: Path, tmp_path: Path) -> None:
    answer = Workflow(repository, tmp_path)(shipped(repository, "transfer-demo"), "--dry-run")
    texts = (answer.stdout + answer.stderr).split("rule figure:")[1:]
    jobs = [text.split("\n\n")[0].split("output:") for text in texts]
    pair = "digits-0-4-to-digits-5-9/resnet8"
    for method, baseline in (("twins-at", "at"), ("twins-trades", "trades")):
        for name in ("transfer-training", "transfer-mechanism"):
            file = f"figures/{pair}/{method}/{name}.png"
            (inputs,) = [before for before, after in jobs if file in after]
            for each in (method, baseline):
                assert f"transfers/{pair}/{each}/seed0/training.csv" in inputs
        (inputs,) = [before for before, after in jobs if f"{method}/transfer-pareto.png" in after]
        for each in (method, baseline):
            assert f"/{each}/seed0/evaluation/rift/adversarial.npz" in inputs


@pytest.mark.whole
def test_the_demo_of_transfers_ends_in_its_table_and_figures(
    repository: Path, tmp_path: Path
) -> None:
    answer = Workflow(repository, tmp_path)(shipped(repository, "transfer-demo"))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    folder = tmp_path / "results/transfer-demo"
    pair = "digits-0-4-to-digits-5-9/resnet8"
    for method, baseline in (("twins-at", "at"), ("twins-trades", "trades")):
        for each in (method, baseline):
            path = folder / f"transfers/{pair}/{each}/seed0/evaluation/base/adversarial.json"
            # Five classes: the robustness of the source has been transferred.
            assert artifacts.read_json(path, ("pgd",))["pgd"]["accuracy"] > 40
        for name in ("transfer-training", "transfer-mechanism", "transfer-pareto"):
            assert (folder / f"figures/{pair}/{method}/{name}.png").is_file()
    table = (folder / "tables/transfer.md").read_text()
    assert "An asterisk marks" in table
    for row in ("at + rift", "twins-at + rift", "trades + rift", "twins-trades + rift"):
        assert f"| {row} " in table


@pytest.mark.whole
def test_every_regime_but_standard_ends_robust_and_accurate_on_digits(
    repository: Path, tmp_path: Path
) -> None:
    configuration = shipped(repository, "regimes-demo")
    # To save time, the test trains only bases, with half of the epochs. They are robust by then.
    configuration["train"] |= {"epochs": 8, "milestones": [7]}
    configuration["evaluate"]["pgd"] = {"restarts": 1}
    regimes = configuration["grid"]["regimes"]
    assert set(regimes) == set(get_args(RegimeName))
    folder = Path("results/regimes-demo/runs/digits/resnet8")
    results = {regime: folder / regime / "seed0/evaluation/base" for regime in regimes}
    answer = Workflow(repository, tmp_path)(
        configuration,
        *(
            str(path / f"{name}.json")
            for path in results.values()
            for name in ("standard", "adversarial")
        ),
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    standard, robust = {}, {}
    for regime, path in results.items():
        standard[regime] = artifacts.read_json(tmp_path / path / "standard.json")["accuracy"]
        robust[regime] = artifacts.read_json(tmp_path / path / "adversarial.json")["pgd"][
            "accuracy"
        ]
    attacked = robust.pop("standard")
    assert min(robust.values()) >= attacked + 20, robust
    assert min(standard.values()) >= 60, standard


def test_a_wrong_configuration_is_refused_before_anything_is_made(
    repository: Path, tmp_path: Path
) -> None:
    bad = {
        **TINY,
        "atack": {},
        "attack": {"eps": -1},
        "grid": {**TINY["grid"], "datasets": ["cifar11"]},
    }
    answer = Workflow(repository, tmp_path)(bad)
    assert answer.returncode == 1
    message = answer.stdout + answer.stderr
    assert "config.yaml: 3 problems" in message
    for problem in (
        "atack: is not a key",
        "attack.eps: ",
        "grid.datasets.0: 'cifar11' is not available; available: 'digits', 'cifar10'",
    ):
        assert problem in message
    assert "Traceback" not in message
    assert not (tmp_path / "results").exists()


def test_the_workflow_is_clean(repository: Path) -> None:
    assert len((repository / "workflow/Snakefile").read_text().splitlines()) <= 40
    for path in (repository / "workflow/rules").glob("*.smk"):
        rules = re.split(r"^rule ", path.read_text(), flags=re.M)[1:]
        for rule in rules:
            if "shell:" in rule:
                assert all(
                    f"    {directive}:\n" in rule
                    for directive in ("log", "benchmark", "resources", "params")
                ), rule
            assert "run:" not in rule


def test_the_experiment_of_twins_needs_no_images_of_its_source(
    repository: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "models/imagenet-resnet50-linf-4.pth"
    weights.parent.mkdir()
    weights.touch()
    jobs = Workflow(repository, tmp_path).jobs(shipped(repository, "transfer"))
    assert (jobs["import_base"], jobs["transfer"], jobs["prepare"]) == (3, 5 * 4 * 3, 5)
    assert jobs["evaluate_standard"] == 2 * 5 * 4 * 3
    assert "train" not in jobs
