"""A small run of the whole workflow: real images, every stage, every artifact."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch

from rift import artifacts, config
from rift.config import DATASET_FIGURES, FigureName
from rift.interpolation import Point, select
from rift.layout import figure_needs, table_needs
from tests.browser import CHROMIUM, Browser
from tests.workflow.running import RUN, TINY, Configuration, Workflow


@pytest.fixture(scope="module")
def workflow(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    workflow = Workflow(repository, tmp_path_factory.mktemp("workflow"))
    answer = workflow(TINY)
    logs = "\n".join(path.read_text() for path in workflow.folder.rglob("*.log"))
    assert answer.returncode == 0, answer.stdout + answer.stderr + logs
    return workflow


def changed(section: str, **settings: object) -> Configuration:
    return {**TINY, section: {**TINY[section], **settings}}


def test_every_artifact_is_there_with_its_provenance(workflow: Workflow) -> None:
    run = workflow.folder / RUN
    for name in ("base", "rift/finetuned", "rift/selected", "module-linear/selected"):
        _, facts = artifacts.read_weights(run / f"{name}.safetensors")
        assert facts["provenance"]["seed"] == 0
        assert facts["model"]["architecture"] == "resnet8"
    criticality = artifacts.read_csv(
        run / "criticality.csv", ("module", "kind", "parameters", "mrc", "rank")
    )
    assert len(criticality) == 10
    assert sorted(criticality["rank"]) == list(range(1, 11))
    manifest = artifacts.read_json(workflow.folder / "results/tiny/data/digits/manifest.json")
    assert manifest["images"] == {"train": 1295, "validation": 143, "test": 359}
    assert list(manifest["sources"]) == ["digits.csv.gz"]
    logs = list((workflow.folder / "results/tiny/logs").rglob("*.log"))
    assert not any("Traceback" in log.read_text() for log in logs)
    benchmarks = list((workflow.folder / "results/tiny/benchmarks").rglob("*.tsv"))
    assert len(logs) == len(benchmarks) > 30


def test_results_agree_with_the_outcomes_of_every_example(workflow: Workflow) -> None:
    evaluation = workflow.folder / RUN / "evaluation"
    for variant in ("base", "rift", "module-linear"):
        standard = artifacts.read_json(evaluation / variant / "standard.json")
        outcomes = artifacts.read_outcomes(evaluation / variant / "standard.npz")["standard"]
        assert (standard["accuracy"], standard["images"]) == (100 * outcomes.mean(), 50)
        ood = artifacts.read_csv(
            evaluation / variant / "ood.csv", ("corruption", "severity", "accuracy")
        )
        correct = artifacts.read_outcomes(evaluation / variant / "ood.npz")
        assert ood["accuracy"].tolist() == [
            100 * row.mean() for name in correct for row in correct[name]
        ]
        adversarial = artifacts.read_json(evaluation / variant / "adversarial.json")
        assert ("autoattack" in adversarial) == (variant == "rift")
        assert adversarial["pgd"]["images"] == 40
        withstood = artifacts.read_outcomes(evaluation / variant / "adversarial.npz")
        assert not (withstood["pgd"] & ~outcomes[:40]).any()
    assert np.all(withstood["pgd"].shape == (40,))
    broken = artifacts.read_outcomes(evaluation / "rift/adversarial.npz")
    assert adversarial["pgd"]["restarts"] == 3
    assert broken["autoattack"].sum() <= broken["pgd"][:4].sum()


def test_severities_that_are_named_have_the_outcomes_that_they_have_among_all(
    workflow: Workflow,
) -> None:
    """The outcomes also contain their images and severities."""
    data, run = workflow.folder / "results/tiny/data/digits", workflow.folder / RUN
    corrupted = ",".join(
        str(data / f"corrupted/{name}.npy") for name in ("contrast", "gaussian_noise")
    )
    words = f"--weights {run}/base.safetensors --data {data}/prepared.safetensors"
    words += f" --corrupted {corrupted} --evaluate.ood.corruptions contrast,gaussian_noise"
    words += " --evaluate.ood.severities 2,5 --evaluate.ood.images 50"
    words += f" --output {workflow.folder}/some.csv --outcomes {workflow.folder}/some.npz"
    command = [sys.executable, "-m", "rift", "evaluate", "ood", *words.split()]
    subprocess.run(command, check=True, capture_output=True)
    some, every = (
        artifacts.read_outcomes(path)
        for path in (workflow.folder / "some.npz", run / "evaluation/base/ood.npz")
    )
    for name, outcomes in some.items():
        assert np.array_equal(outcomes, every[name][[1, 4]])
    table = artifacts.read_csv(workflow.folder / "some.csv", ("corruption", "severity", "accuracy"))
    assert list(table["severity"]) == [2, 5, 2, 5]
    told, of_all = (
        artifacts.read_origin(path)
        for path in (workflow.folder / "some.npz", run / "evaluation/rift/standard.npz")
    )
    assert told["settings"]["evaluate"]["ood"]["severities"] == [2, 5]
    assert told["examples"] == of_all["examples"]


def test_the_selected_weights_are_those_of_the_rule_on_the_sweep(workflow: Workflow) -> None:
    for scope in ("rift", "module-linear"):
        folder = workflow.folder / RUN / scope
        sweep = artifacts.read_csv(
            folder / "sweep.csv", ("alpha", "standard_accuracy", "adversarial_accuracy")
        )
        choice = artifacts.read_json(folder / "selection.json")
        points = [Point(*row) for row in sweep.itertuples(index=False)]
        assert choice["alpha"] == select(points, 0.1).alpha
        base, _ = artifacts.read_weights(workflow.folder / RUN / "base.safetensors")
        tuned, _ = artifacts.read_weights(folder / "finetuned.safetensors")
        selected, _ = artifacts.read_weights(folder / "selected.safetensors")
        alpha = choice["alpha"]
        for name, theta in base.items():
            if theta.is_floating_point():
                torch.testing.assert_close(
                    selected[name], (1 - alpha) * theta + alpha * tuned[name]
                )


def test_a_finished_experiment_starts_no_job_wherever_data_sets_lie(workflow: Workflow) -> None:
    assert workflow.jobs(TINY) == {}
    assert workflow.jobs({**TINY, "data": {"root": "elsewhere"}}) == {}


IMPORTED: Configuration = {
    **TINY,
    "experiment": "imported",
    "grid": {**TINY["grid"], "seeds": [0, 1]},
    "base": [{"dataset": "digits", "seed": 1, "weights": str(RUN / "base.safetensors")}],
}


def test_a_base_is_trained_or_imported_as_its_run_says(workflow: Workflow) -> None:
    jobs = workflow.jobs(IMPORTED)
    assert (jobs["train"], jobs["import_base"], jobs["criticality"]) == (1, 1, 2)
    # An imported base has no training history to draw.
    assert jobs["figure"] == EVERY_FIGURE["figure"] - 1
    run = Path("results/imported/runs/digits/resnet8/pgd/seed1")
    answer = workflow(IMPORTED, str(run / "base.safetensors"))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not (workflow.folder / run / "training.csv").exists()
    manifest = artifacts.read_json(workflow.folder / run / "imported.json")
    base, _ = artifacts.read_weights(workflow.folder / RUN / "base.safetensors")
    imported, facts = artifacts.read_weights(workflow.folder / run / "base.safetensors")
    assert all(torch.equal(imported[name], value) for name, value in base.items())
    assert manifest["normalization"]["from"] == "file"
    assert manifest["images"] == {"validation": 143, "test": 359}
    assert facts["model"]["architecture"] == "resnet8"


def test_a_base_that_is_to_be_imported_is_never_trained_instead(workflow: Workflow) -> None:
    answer = workflow({**IMPORTED, "base": [{"weights": "nowhere.pth"}]}, "--dry-run")
    assert answer.returncode == 1
    assert re.search(
        r"Missing input files for rule import_base:[\s\S]*nowhere\.pth",
        answer.stdout + answer.stderr,
    )


(OF_CELLS,) = config.parse(TINY, "config.yaml").figures.values()


def figures(*needs: str) -> dict[str, int]:
    """Return the figures of a cell that need one of these artifacts."""
    return {"figure": sum(not {*needs}.isdisjoint(figure_needs(name)) for name in OF_CELLS)}


SHOWN = config.parse(TINY, "config.yaml").tables


def tables(*needs: str) -> dict[str, int]:
    """Return the tables that need one of these artifacts, and the first page, which needs all."""
    named = [name for name in SHOWN if not {*needs}.isdisjoint(table_needs(name))]
    return {"table": len(named), "overview": 1}


TABLES = tables("criticality", "sweep", "standard", "ood", "adversarial")
EVERY_FIGURE = {"figure": len(OF_CELLS)}
AFTER_SELECTION = {
    "evaluate_standard": 2,
    "evaluate_ood": 2,
    "evaluate_adversarial_shard": 2,
    "evaluate_adversarial": 2,
    **figures("criticality", "sweep", "standard", "ood", "adversarial"),
    **TABLES,
}


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (changed("interpolate", alphas=[0, 0.25, 1]), {"interpolate": 2, **AFTER_SELECTION}),
        (
            changed("criticality", epsilon=0.2),
            {
                "criticality_shard": 1,
                "criticality": 1,
                "finetune": 2,
                "interpolate": 2,
                **AFTER_SELECTION,
            },
        ),
        (
            changed("evaluate", standard={"images": 45}),
            {"evaluate_standard": 3, **figures("standard"), **tables("standard")},
        ),
        (
            {
                **TINY,
                "overrides": {"architectures": {"resnet8": {"evaluate": {"pgd": {"images": 30}}}}},
            },
            {
                "evaluate_adversarial_shard": 3,
                "evaluate_adversarial": 3,
                **figures("adversarial"),
                **tables("adversarial"),
            },
        ),
        (
            {**TINY, "corrupt": {"seed": 1}},
            {
                "corrupt": 2,
                "evaluate_ood": 3,
                **figures("ood"),
                "dataset_figure": len(DATASET_FIGURES),
                **tables("ood"),
            },
        ),
        (
            changed("grid", autoattack=["base", "rift"]),
            {
                "evaluate_adversarial_shard": 1,
                "evaluate_adversarial": 1,
                **EVERY_FIGURE,
                "dataset_figure": len(DATASET_FIGURES),
                **TABLES,
            },
        ),
    ],
    ids=[
        "alphas",
        "criticality.epsilon",
        "evaluate.standard",
        "overrides",
        "corrupt.seed",
        "grid.autoattack",
    ],
)
def test_a_changed_setting_reruns_its_stage_and_what_follows(
    configuration: Configuration, expected: dict[str, int], workflow: Workflow
) -> None:
    jobs = workflow.jobs(configuration)
    assert jobs == {**expected, "all": 1, "total": sum(expected.values()) + 1}


def test_a_new_version_of_a_stage_reruns_it_and_what_follows(
    workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from rift.artifacts import STAGE_VERSIONS\nSTAGE_VERSIONS['interpolate'] = 2\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert workflow.jobs(TINY) == workflow.jobs(changed("interpolate", alphas=[0, 1]))


def test_printed_commands_can_be_run_by_hand(workflow: Workflow, tmp_path: Path) -> None:
    """Three shards give the same table as a single one, except for its provenance."""
    answer = workflow(TINY, "--dry-run", "--forcerun", "criticality_shard", "--printshellcmds")
    (command,) = re.findall(r"rift criticality .*(?= > )", answer.stdout + answer.stderr)
    (output,) = re.findall(r"--output (\S+)", command)
    before = (workflow.folder / RUN / "criticality.csv").read_bytes()

    def run(command: str) -> None:
        words = [
            sys.executable,
            "-c",
            "from rift.commands.main import main; main()",
            *command.split()[1:],
        ]
        subprocess.run(
            words,
            cwd=workflow.folder,
            check=True,
            capture_output=True,
            env={"OMP_NUM_THREADS": "1"},
        )

    for count in (1, 3):
        parts = [tmp_path / f"{number}-of-{count}.safetensors" for number in range(1, count + 1)]
        for number, part in enumerate(parts, start=1):
            run(
                command.replace(output, str(part)).replace(
                    "--shard 1/1", f"--shard {number}/{count}"
                )
            )
        run(
            f"rift merge criticality --shards {','.join(map(str, parts))} "
            f"--output {tmp_path / 'again.csv'}"
        )
        assert (tmp_path / "again.csv").read_bytes() == before


def test_a_damaged_artifact_fails_its_job_with_a_message(workflow: Workflow) -> None:
    path = workflow.folder / RUN / "rift/finetuned.safetensors"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        target = str(RUN / "rift/selected.safetensors")
        answer = workflow(
            TINY, "--forcerun", "interpolate", "--rerun-triggers", "mtime", "--", target
        )
        log = (
            workflow.folder
            / "results/tiny/logs"
            / RUN.relative_to("results/tiny")
            / "rift/interpolate.log"
        ).read_text()
    finally:
        path.write_bytes(whole)
    assert answer.returncode == 1
    assert f"{RUN / 'rift/finetuned.safetensors'}: is damaged" in log
    assert "Traceback" not in log
    assert not (workflow.folder / RUN / "rift/selected.safetensors").exists()


def test_the_report_shows_every_table_and_figure(workflow: Workflow, tmp_path: Path) -> None:
    assert workflow(TINY).returncode == 0
    answer = workflow(TINY, "--report", "report.html")
    assert answer.returncode == 0, answer.stderr
    page = (workflow.folder / "report.html").read_text()
    for name in SHOWN:
        assert f"{name}.html" in page
    for figure in get_args(FigureName):
        assert (f"{figure}.png" in page) == (figure in (*OF_CELLS, *DATASET_FIGURES))
    assert "Robust critical fine-tuning: experiment tiny" in page
    table = pd.read_csv(workflow.folder / "results/tiny/tables/main.csv")
    assert set(table["metric"]) == {"std", "ood", "pgd", "autoattack"}
    if CHROMIUM is not None:
        with Browser(tmp_path / "profile") as browser:
            look_at_the_report(browser, workflow.folder / "report.html")


def look_at_the_report(browser: Browser, page: Path) -> None:
    """Open the first page, then every table and figure, like a click on its button."""
    browser.open(page)
    browser.wait("document.querySelector('#rift-overview img')?.naturalWidth > 1000")
    text = browser.run("document.body.innerText")
    assert "On digits with resnet8 (pgd), RiFT changed Std by" in text
    assert re.search(r"AT \+ RiFT\s+\d", text)
    assert browser.run("document.querySelector('#rift-overview').getBoundingClientRect().top") < 200
    categories = browser.run("Object.keys(categories)")
    assert sorted(categories) == ["0. Overview", "1. Tables", "2. digits", "2. digits, pgd"]
    for path in browser.run("Object.keys(results)"):
        browser.run(f"new ToggleViewManager(app).handleSelectedResult({json.dumps(path)})")
        if path.endswith(".html"):
            length = browser.run(f"results[{json.dumps(path)}].data_uri.length")
            this_one = f"location.href.length === {length}"
            browser.wait(f"{this_one} && document.readyState === 'complete'", browser.frame)
            assert browser.run("document.querySelector('tbody tr') !== null", browser.frame())
            if "/tables/" in path:
                browser.run("document.querySelector('thead button').click()", browser.frame())
                assert browser.run(
                    "document.querySelector('[aria-sort]') !== null", browser.frame()
                )
        else:
            this_one = (
                f"image.src === results[{json.dumps(path)}].data_uri && image.naturalWidth > 500"
            )
            browser.wait(f"[...document.images].some(image => {this_one})")
    assert len(browser.run("Object.keys(results)")) == (
        1 + len(SHOWN) + len(OF_CELLS) + len(DATASET_FIGURES)
    )
    # Snakemake's report warns about the form of one of its own libraries.
    assert [
        text for text in browser.complaints if "cdn.tailwindcss.com should not be used" not in text
    ] == []
    assert browser.requests == []


def test_an_evaluation_is_gathered_from_any_number_of_shards_into_the_same_bytes(
    workflow: Workflow,
) -> None:
    """This must be the last test that uses the shared folder.

    Snakemake records the number of shards there.
    """
    folder = workflow.folder / RUN / "evaluation/base"
    names = ("adversarial.json", "adversarial.npz")
    before = [(folder / name).read_bytes() for name in names]
    target = str(RUN / "evaluation/base/adversarial.json")
    answer = workflow(
        changed("evaluate", adversarial={"shards": 3}),
        "--forcerun",
        "evaluate_adversarial_shard",
        "--",
        target,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert set(re.findall(r"rift evaluate adversarial .*--shard (./3)", answer.stderr)) == {
        "1/3",
        "2/3",
        "3/3",
    }
    assert [(folder / name).read_bytes() for name in names] == before
    assert not list(folder.glob("adversarial/*"))
