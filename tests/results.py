"""Make folders of results whose numbers are known, through ``rift.layout`` like the stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from rift import artifacts, data, layout
from rift.artifacts import Array, Provenance
from rift.config import Corrupt, CorruptionName, Grid, RegimeName, Scope, Variant, parse
from rift.data.corruptions import files
from rift.layout import Cell, Run

# Digest of the test set in all outcomes.
TEST_SET = "a"
PGD = {"eps": 0.2, "step": 0.05, "steps": 10}
MEASURED = {
    "method": "pga",
    "epsilon": 0.1,
    "norm": "l2",
    "images": 64,
    "split": "train",
    "precision": "float32",
}


@dataclass(frozen=True)
class RunContent:
    """The content of a made-up run.

    Attributes:
        scopes: scopes that were fine-tuned and evaluated.
        autoattack: variants that AutoAttack was run on.
        modules: names of the modules.
        corruptions: corruptions of the evaluation. After fine-tuning, the network passes all images
            of the first one; of every other one, it gains as many images as it loses.
        images: number of test images; AutoAttack has the first half of them.
        epochs: number of epochs of training. The last but one third of them is kept.
        robust_module: number of a module whose MRC is zero.
        stage: stage that made the base.
        settings: settings of that stage.
    """

    scopes: Sequence[Scope] = ("rift", "top2")
    autoattack: Sequence[Variant] = ("base", "rift")
    modules: Sequence[str] = ("conv1", "layer1.0.conv1", "linear")
    corruptions: Sequence[CorruptionName] = ("gaussian_noise", "contrast")
    images: int = 50
    epochs: int = 3
    robust_module: int | None = None
    stage: Literal["train", "import", "transfer"] = "train"
    settings: Mapping[str, Any] = field(default_factory=dict)


def a_grid(
    datasets: tuple[str, ...] = ("digits",),
    architectures: tuple[str, ...] = ("resnet8",),
    regimes: tuple[str, ...] = ("pgd",),
    seeds: tuple[int, ...] = (0, 1),
    **others: Any,
) -> Grid:
    """Return a grid whose names may be made up."""
    chosen: dict[str, Any] = {
        "datasets": datasets,
        "architectures": architectures,
        "regimes": regimes,
        "seeds": seeds,
        "scopes": ("rift", "top2"),
        "autoattack": ("base", "rift"),
        **others,
    }
    return Grid.model_construct(**chosen)


def source(
    settings: Mapping[str, Any] | None = None, *, stage: str = "test", examples: str | None = None
) -> Provenance:
    """Return the provenance of an artifact.

    Args:
        settings: settings of the stage.
        stage: name of the stage.
        examples: digest of the test set, for outcomes.
    """
    made = artifacts.provenance(stage, settings or {})
    return made if examples is None else {**made, "examples": examples}


def settings_of(regime: RegimeName, **content: Any) -> dict[str, Any]:
    """Return all settings of a regime, as an artifact contains them.

    Args:
        regime: the training regime.
        content: other entries of the experiment file.
    """
    grid = {"datasets": ["digits"], "architectures": ["resnet8"]}
    experiment = parse({"experiment": "x", "grid": grid, **content}, "x.yaml")
    return experiment.settings("digits", "resnet8", regime).model_dump(mode="json")


def write_run(folder: Path, run: Run, content: RunContent, rng: np.random.Generator) -> None:
    """Write all artifacts of a run."""
    at = folder / run.name
    base = source(content.settings, stage=content.stage)
    artifacts.write_arrays(at / layout.BASE, {"weight": np.zeros(1)}, base)
    # The file of an earlier import remains after a later training.
    imported = {
        "weights": "mine.pth",
        "sha256": "0123456789abcdef",
        "normalization": {"from": "dataset"},
    }
    artifacts.write_json(at / layout.IMPORTED, imported, base)
    artifacts.write_csv(at / layout.TRAINING, history(content.epochs), source())

    mrc = np.exp(rng.normal(-2, 1, len(content.modules)))
    if content.robust_module is not None:
        mrc[content.robust_module] = 0.0
    table = criticality_table(content.modules, mrc)
    measured = source({"criticality": MEASURED, "attack": PGD})
    artifacts.write_csv(at / layout.CRITICALITY, table, measured)
    least = [content.modules[number] for number in mrc.argsort()]
    for scope in content.scopes:
        _write_scope(at, scope, chosen_modules(scope, least), rng)
    _write_evaluations(at, content, rng)


def chosen_modules(scope: Scope, least: Sequence[str]) -> list[str]:
    """Return the modules that a scope fine-tunes, from those in the order of their criticality."""
    if scope.startswith("top"):
        return list(least[: int(scope[3:])])
    return {"rift": [least[0]], "robust-critical": [least[-1]], "all-layers": list(least)}.get(
        scope, [least[1]]
    )


def criticality_table(modules: Sequence[str], mrc: Array) -> pd.DataFrame:
    """Return a criticality table."""
    return pd.DataFrame(
        {
            "module": list(modules),
            "kind": "conv",
            "parameters": 2304,
            "mrc": mrc,
            "mrc_error": 0.05 * mrc + 0.001,
            "robust_loss": 1 + mrc,
            "robust_accuracy_drop": 20 * mrc,
            "rank": mrc.argsort().argsort() + 1,
            "tied": mrc <= mrc.min() + 0.01,
        }
    )


def history(epochs: int) -> pd.DataFrame:
    """Return a training history. The learning rate falls, and the epoch after that is kept."""
    fall = 2 * epochs // 3
    accuracy = 30 + np.sqrt(np.arange(float(epochs)))
    columns: dict[str, Any] = {
        "epoch": range(1, epochs + 1),
        "learning_rate": [0.1] * fall + [0.01] * (epochs - fall),
    }
    for split, gain in (("", 0), ("train_", 5)):
        columns[f"{split}standard_accuracy"] = accuracy + 30 + gain
        columns[f"{split}adversarial_accuracy"] = accuracy + gain
    return pd.DataFrame(columns).assign(kept=lambda table: table["epoch"] == fall + 1)


def transfer_history(
    epochs: int, seed: int, *, gradient: float = 1, gap: float = 5
) -> pd.DataFrame:
    """Return the history of a transfer.

    Args:
        epochs: number of epochs.
        seed: its seed, with which all numbers rise.
        gradient: norm of the gradient in the first epoch.
        gap: gap between training images and selection split in the last epoch, in points.
    """
    done = np.arange(float(epochs))
    norm = 14 + seed + 0.01 * gradient * done
    table = history(epochs).assign(
        weight_norm=norm,
        gradient_norm=gradient * (1 + 0.1 * seed + 0.02 * done),
        effective_learning_rate=lambda rows: rows["learning_rate"] / norm**2,
    )
    for kind in ("standard", "adversarial"):
        table[f"{kind}_accuracy"] += seed
        opened = gap * (done + 1) / epochs + 0.5 * seed
        table[f"train_{kind}_accuracy"] = table[f"{kind}_accuracy"] + opened
    return table


def _write_scope(at: Path, scope: Scope, modules: list[str], rng: np.random.Generator) -> None:
    sweep = pd.DataFrame({"alpha": [0, 0.5, 1]})
    for kind, level, gain in (("standard", 80, 2), ("adversarial", 50, -1)):
        changes = sweep["alpha"] * rng.normal(gain, 1, 3)
        sweep[f"{kind}_accuracy"] = rng.normal(level, 3) + changes
    artifacts.write_csv(at / layout.sweep(scope), sweep, source())
    choice: dict[str, Any] = {
        "alpha": 0.5,
        "selection": "validation",
        "images": 40,
        "tolerance": 0.25,
        "restarts": 3,
        "precision": "float32",
    }
    artifacts.write_json(at / layout.selection(scope), choice, source())
    weights = {"weight": np.zeros(1)}
    facts = {"modules": modules, "clean_gradient": float(len(modules))}
    artifacts.write_arrays(at / layout.finetuned(scope), weights, source(), **facts)


def _write_evaluations(at: Path, content: RunContent, rng: np.random.Generator) -> None:
    made = source(examples=TEST_SET)
    count = content.images
    base = {
        "standard": rng.random(count) < 0.8,
        "pgd": rng.random(count) < 0.5,
        "autoattack": rng.random(count // 2) < 0.4,
    }
    clean = {name: rng.random((5, count)) < 0.6 for name in content.corruptions}
    for variant in ("base", *content.scopes):
        changed = variant != "base"
        outcomes = {
            name: values ^ (changed & (rng.random(len(values)) < 0.1))
            for name, values in base.items()
        }
        standard = {"standard": outcomes["standard"]}
        artifacts.write_outcomes(at / layout.outcomes(variant, "standard"), standard, made)
        attacks = ("pgd", "autoattack") if variant in content.autoattack else ("pgd",)
        attacked = {name: outcomes[name] for name in attacks}
        artifacts.write_outcomes(at / layout.outcomes(variant, "adversarial"), attacked, made)
        facts = {
            "pgd": {**PGD, "restarts": 3},
            "autoattack": {"version": "standard", "eps": PGD["eps"]},
        }
        artifacts.write_json(at / layout.result(variant, "adversarial"), facts, made)

        corrupted: dict[str, Array] = {
            name: _exchanged(values, rng) | (name == content.corruptions[0]) if changed else values
            for name, values in clean.items()
        }
        artifacts.write_outcomes(at / layout.outcomes(variant, "ood"), corrupted, made)
        rows = [
            {"corruption": name, "severity": level, "accuracy": 100 * row.mean()}
            for name, rows in corrupted.items()
            for level, row in enumerate(rows, start=1)
        ]
        table = pd.DataFrame(rows).assign(source="generated")
        artifacts.write_csv(at / layout.result(variant, "ood"), table, made)


def _exchanged(values: Array, rng: np.random.Generator) -> Array:
    """Exchange some outcomes between images: as many images are gained as are lost."""
    places = rng.choice(values.shape[-1], 12, replace=False)
    exchanged = values.copy()
    exchanged[..., places] = values[..., np.roll(places, 1)]
    return exchanged


def write_dataset(
    folder: Path,
    dataset: str,
    prepared: data.Prepared,
    corruptions: Sequence[CorruptionName],
    settings: Corrupt,
) -> None:
    """Write a prepared data set and its corrupted test images."""
    data.save(folder / layout.prepared(dataset), prepared, source())
    for name in corruptions:
        split = files.corrupted_test_split(prepared, name, settings, folder)
        path = folder / layout.corrupted(dataset, name)
        files.save(path, split, prepared.labels["test"], source())


def write_manifest(folder: Path, dataset: str) -> None:
    """Write the manifest of a data set."""
    counts = {"images": {"train": 100, "validation": 40, "test": 50}}
    artifacts.write_json(folder / layout.manifest(dataset), counts, source())


def write_benchmark(path: Path, seconds: float) -> None:
    """Write a benchmark file as Snakemake does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
        f"{seconds}\t0:00:20\t408.00\t801.86\t284.59\t339.39\t0.00\t5.84\t40.43\t15.06\n"
    )


def rewrite_json(path: Path, made: Provenance | None = None, **changes: object) -> None:
    """Write a JSON artifact again with other values, and optionally another provenance."""
    content = artifacts.read_json(path)
    old = content.pop("provenance")
    artifacts.write_json(path, {**content, **changes}, made or old)


def linked_copy(folder: Path, target: Path, *omitted: str) -> Path:
    """Link all files of a folder into another one, except for those that match a pattern."""
    left_out = {path for pattern in omitted for path in folder.glob(pattern)}
    assert left_out or not omitted
    for path in folder.rglob("*"):
        if path.is_file() and path not in left_out:
            link = target / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
    return target


def outcomes_of(
    folder: Path, cell: Cell, seeds: Sequence[int], variant: Variant, name: str
) -> Array:
    """Read outcomes without ``rift.reporting``: seeds × images, or × severities × images."""
    evaluations: dict[str, layout.Evaluation] = {
        "standard": "standard",
        "pgd": "adversarial",
        "autoattack": "adversarial",
    }
    file = layout.outcomes(variant, evaluations.get(name, "ood"))
    runs = [folder / Run(cell, seed).name / file for seed in seeds]
    return np.stack([np.load(run)[name].astype(float) for run in runs])
