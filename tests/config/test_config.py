import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rift import config
from rift.commands.evaluate import EvaluateOod
from rift.commands.exchange import Import
from rift.commands.finetune import Finetune
from rift.commands.report import Table
from rift.commands.train import Train
from rift.config import Grid
from rift.config.names import SourceName, has_any_size
from rift.config.normalization import mean_and_std
from rift.config.sources import SOURCES
from rift.criticality.scopes import SCOPES
from rift.criticality.searches import SEARCHES
from rift.data.corruptions import CORRUPTIONS
from rift.data.corruptions.corrupting import severities
from rift.data.sources import DATASETS
from rift.data.sources.named import dataset_named
from rift.errors import RiftError
from rift.layout import Cell, Run
from rift.models.architectures import ARCHITECTURES
from rift.reporting.figures import FIGURES
from rift.reporting.tables import TABLES
from rift.training.methods import METHODS
from rift.training.regimes import REGIMES
from tests.commands.parsing import TRAIN_FILES, parse_command

GRID = {"datasets": ["digits"], "architectures": ["resnet8"]}
FILES = {
    "base": "b.safetensors",
    "criticality": "c.csv",
    "data": "d.safetensors",
    "output": "o.safetensors",
    "history": "h.csv",
}
FINETUNE = ["finetune", *(f"--{name}={file}" for name, file in FILES.items())]
REGIME_NAMES: tuple[config.RegimeName, ...] = get_args(config.RegimeName)


def experiment(**sections: Any) -> config.Experiment:
    return config.parse({"experiment": "x", "grid": GRID, **sections}, "x.yaml")


def test_all_problems_of_a_file_are_said_at_once_with_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        """
        experiment: x
        grid:
          datasets: [cifar11]
          architectures: [resnet8, vgg, "timm:a/b", timm:b]
          seeds: []
          scopes: [rift, top9]
        attack: {eps: 0, steps: ten, radius: 1}
        interpolate: {alphas: [0, 0.5, 1.5], tolerance: 1/0}
        evaluate: {ood: {corruptions: []}}
        overrides:
          datasets: {digits: {train: {epochs: -1}}}
          architectures: {vgg: {}, timm:b: {}}
        train: fast
        """
    )
    with pytest.raises(RiftError) as caught:
        config.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: 14 problems\n")
    for problem in (
        "grid.datasets.0: 'cifar11' is not available; available: 'digits'",
        "grid.architectures.1: 'vgg' is not available; available: 'resnet8', 'resnet20',"
        " 'resnet18-w16', 'resnet18-w16-gn', 'resnet18-w32', 'resnet18', 'resnet34',"
        " 'preact-resnet18', 'wrn-28-10', 'wrn-34-10', 'vit-small' or 'vit-w96', or: timm:NAME for"
        " a network of timm",
        "grid.architectures.2: 'timm:a/b' is not available",
        "grid.seeds: must not be empty",
        "grid.scopes.1: 'top9' is not available",
        "attack.eps: Input should be greater than 0",
        "attack.steps: Input should be a valid integer",
        "attack.radius: is not a key of this section",
        "interpolate.alphas.2: Input should be less than or equal to 1",
        "interpolate.tolerance: '1/0' is neither a number nor a fraction",
        "evaluate.ood.corruptions: must not be empty",
        "overrides.architectures.vgg.[key]: 'vgg' is not available",
        "overrides.datasets.digits.train.epochs: Input should be greater than or equal to 1",
        "train: must be a section of keys",
    ):
        assert f"\n  {problem}" in message, message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("experiment: [", "is not valid YAML"),
        ("train: {epochs: 1}\ntrain: {epochs: 2}", "key 'train' occurs twice"),
        ("- a list", "must be a mapping with the keys"),
        (
            "experiment: ../up\ngrid: {datasets: [digits], architectures: [resnet8]}",
            "experiment: String should match",
        ),
        (
            "grid: {datasets: [digits], architectures: [resnet8], seeds: [1, 1]}",
            "grid.seeds: must not contain a value twice; repeated: 1",
        ),
        (
            "grid: {datasets: [digits], architectures: [resnet8], scopes: [top2],"
            " autoattack: [rift]}",
            "grid: autoattack contains rift, but scopes does not",
        ),
        (
            "grid: {datasets: [digits], architectures: [resnet8, resnet18-w16-gn],"
            " scopes: [rift, statistics], autoattack: []}",
            "grid: scopes contains statistics, but resnet18-w16-gn has no batch norm",
        ),
        (
            "grid: {datasets: [digits], architectures: [resnet8], seeds: [99999999999999999999]}",
            "grid.seeds.0: ",
        ),
        ("attack: {eps: '1e999'}", "attack.eps: Input should be a finite number"),
        (
            "overrides: {architectures: {resnet8: {data: {seed: 1}}}}",
            "overrides.architectures.resnet8.data: is not a key",
        ),
        ("train: &train {epochs: *train}", "a YAML alias refers to a value that contains it"),
        ("train: &train [*train]", "a YAML alias refers to a value that contains it"),
        ("train: {2026-01-01: 1}", "a key is not text"),
        ("train: {[1, 2]: 1}", "is not valid YAML"),
        ("train: 2026-13-45", "is not valid YAML: month must be in 1..12"),
        ("train: " + "9" * 5000, "is not valid YAML"),
        ("train: !!timestamp x", "is not valid YAML"),
        ("[" * 3000, "is nested too deeply"),
        ("seeds: [" + "1, " * 50_000 + "1]", "has more than 100,000 characters"),
    ],
)
def test_other_mistakes_in_a_file_get_a_message(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RiftError, match=problem):
        config.read(path)


def bomb(levels: int, link: str) -> str:
    """Return a few lines whose aliases expand to 9 ** levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]" if link == "[{}]" else "a0: &a0 {x: 1}"]
    for level in range(1, levels):
        inside = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} {link.format(inside)}")
    return "\n".join(lines)


@pytest.mark.parametrize("link", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_expand_to_gigabytes_are_refused_at_once(link: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(bomb(9, link))
    with pytest.raises(RiftError, match=r"bomb\.yaml: has more than 100,000 characters after its"):
        config.load(path)


def test_content_that_another_program_read_is_limited_too() -> None:
    """Snakemake reads the file itself, and passes the content."""
    content = yaml.safe_load(bomb(9, "[{}]"))
    with pytest.raises(RiftError, match=r"^x\.yaml: has more than 100,000 characters after its"):
        config.parse(content, "x.yaml")


def test_a_long_name_of_an_experiment_is_refused() -> None:
    with pytest.raises(RiftError, match=r"experiment: String should have at most 100 char.*x…\)"):
        experiment(experiment="x" * 300)


def test_a_message_stays_short() -> None:
    with pytest.raises(RiftError) as caught:
        experiment(train="x" * 5000, **{f"key{number}": 1 for number in range(1000)})
    message = str(caught.value)
    assert message.startswith("x.yaml: 1001 problems\n")
    assert message.endswith("\n  and 951 more")
    assert len(message) < 10_000


@pytest.mark.parametrize(
    ("value", "problem"), [("3", "valid integer"), (3.0, "valid integer"), (True, "valid integer")]
)
def test_types_are_not_guessed(value: object, problem: str) -> None:
    with pytest.raises(RiftError, match=problem):
        experiment(train={"epochs": value})


def test_fractions_and_powers_may_be_written_as_such() -> None:
    found = experiment(
        attack={"eps": "8/255", "step": "2 / 255"}, finetune={"learning_rate": "1e-3"}
    )
    assert found.attack == config.Attack(eps=8 / 255, step=2 / 255)
    assert found.finetune.learning_rate == 0.001


def test_the_defaults_are_those_of_the_paper() -> None:
    found = experiment()
    assert (found.attack.eps, found.attack.step, found.attack.steps) == (8 / 255, 2 / 255, 10)
    assert (found.train.epochs, found.train.milestones) == (110, (100, 105))
    assert (
        found.criticality.epsilon,
        found.criticality.epochs,
        found.criticality.learning_rate,
    ) == (0.1, 10, 1.0)
    assert found.interpolate.alphas == pytest.approx([number / 10 for number in range(11)])


def test_overrides_hold_for_their_data_set_and_architecture_and_the_latter_wins() -> None:
    found = experiment(
        train={"epochs": 9, "batch_size": 32},
        overrides={
            "datasets": {"digits": {"train": {"epochs": 5, "momentum": 0.8}}},
            "architectures": {"resnet8": {"train": {"epochs": 7}}},
        },
    )
    both = found.settings("digits", "resnet8").train
    assert (both.epochs, both.momentum, both.batch_size) == (7, 0.8, 32)
    assert found.settings("digits", "resnet18").train.epochs == 5
    assert found.settings().train.epochs == 9
    assert "--train.epochs 7" in found.flags(Cell("digits", "resnet8", "pgd"), "train")


def test_registries_hold_exactly_the_names_that_a_file_may_use() -> None:
    for names, registry in (
        (config.DatasetName, DATASETS),
        (config.ArchitectureName, ARCHITECTURES),
        (config.RegimeName, REGIMES),
        (config.MethodName, METHODS),
        (config.SearchName, SEARCHES),
        (config.NamedScope, SCOPES),
        (config.CorruptionName, CORRUPTIONS),
        (config.CorruptionName, severities(32)),
        (config.CorruptionName, severities(64)),
        (config.CorruptionListName, config.CORRUPTION_LISTS),
        (config.TableName, TABLES),
        (config.FigureName, FIGURES),
        (SourceName, SOURCES),
    ):
        assert set(get_args(names)) == set(registry)


@given(
    train=st.builds(
        config.Train,
        epochs=st.integers(1, 500),
        learning_rate=st.floats(1e-6, 10),
        milestones=st.lists(st.integers(1, 200), max_size=4).map(tuple),
        precision=st.sampled_from(["auto", "float32", "bfloat16"]),
        accumulate=st.integers(1, 4),
        batch_size=st.integers(8, 500),
        init=st.none(),
        init_normalization=st.none(),
        **{
            name: st.just(config.Train.model_fields[name].default)
            for name in config.RESULT_NEUTRAL & set(config.Train.model_fields)
        },
    ),
    attack=st.builds(config.Attack, eps=st.floats(1e-4, 1), steps=st.integers(1, 50)),
    augment=st.builds(config.Augment, crop=st.integers(0, 9), flip=st.booleans()),
)
def test_a_command_reads_the_flags_that_the_workflow_writes(
    train: config.Train, attack: config.Attack, augment: config.Augment
) -> None:
    sections = {"train": train, "attack": attack, "augment": augment}
    flags = experiment(**{name: section.model_dump() for name, section in sections.items()}).flags(
        None, *sections
    )
    command = parse_command("train", *TRAIN_FILES, *flags.replace("'", "").split())
    assert isinstance(command, Train)
    assert (command.train, command.attack, command.augment) == (train, attack, augment)


OF_TRAINING = ("train", "attack", "inner", "augment", "regime")


def training_command(regime: str, flags: str = "") -> Train:
    command = parse_command(
        "train", *TRAIN_FILES, "--regime", regime, *flags.replace("'", "").split()
    )
    assert isinstance(command, Train)
    return command


def test_what_nobody_says_follows_the_authors_of_a_regime() -> None:
    """Files, flags and the flags that the workflow writes all have the published values."""
    inner: dict[str, object] = {
        "method": "pgd",
        "start": "normal",
        "eps": 0.031,
        "step": 0.007,
        "steps": 10,
    }
    trades = {"epochs": 76, "milestones": [74], "learning_rate": 0.1, "weight_decay": 2e-4}
    mart = {
        "epochs": 120,
        "milestones": [74, 89, 99],
        "learning_rate": 0.01,
        "weight_decay": 3.5e-3,
    }
    plain = {"epochs": 110, "milestones": [100, 105], "learning_rate": 0.1, "weight_decay": 5e-4}
    long = {**plain, "epochs": 200, "milestones": [100, 150]}
    as_threat_model: dict[str, object] = {
        "method": "pgd",
        "start": "uniform",
        "eps": None,
        "step": None,
        "steps": None,
    }
    expected: dict[config.RegimeName, dict[str, dict[str, object]]] = {
        "standard": {"train": plain, "inner": as_threat_model},
        "pgd": {"train": plain, "inner": as_threat_model},
        "awp": {"train": long, "inner": as_threat_model, "awp": {"gamma": 0.01, "warmup": 0}},
        "trades": {"train": trades, "inner": inner, "trades": {"beta": 6.0}},
        "trades-awp": {
            "train": long,
            "inner": {**as_threat_model, "start": "normal"},
            "trades": {"beta": 6.0},
            "awp": {"gamma": 0.005, "warmup": 9},
        },
        "mart": {"train": mart, "inner": inner, "mart": {"beta": 5.0}},
        "score": {
            "train": {**plain, "learning_rate": 0.05},
            "inner": {**as_threat_model, "start": "normal"},
            "score": {"beta": 6.0, "clip": 0.3},
        },
    }
    assert set(expected) == set(REGIME_NAMES)
    for regime, sections in expected.items():
        command = training_command(regime)
        assert command == training_command(
            regime, experiment().flags(Cell("digits", "resnet8", regime), *OF_TRAINING)
        )
        said = command.settings_for_provenance()
        assert {name for name in ("trades", "mart", "score", "awp") if name in said} == set(
            sections
        ) - {
            "train",
            "inner",
        }
        for name, section in sections.items():
            assert {key: said[name][key] for key in section} == section, regime
        assert said["attack"] == config.Attack().model_dump()


def test_a_flag_goes_over_the_recipe_alone() -> None:
    found, recipe = (
        training_command("mart", "--train.epochs 5 --mart.beta 1 --inner.step 0.01"),
        training_command("mart"),
    )
    assert found.train == recipe.train.model_copy(update={"epochs": 5})
    assert found.inner == recipe.inner.model_copy(update={"step": 0.01})
    assert found.settings.mart.beta == 1


def test_a_file_goes_over_the_recipe_and_overrides_over_both() -> None:
    found = experiment(
        grid={**GRID, "regimes": ["pgd", "mart", "trades"]},
        train={"epochs": 5},
        inner={"eps": 0.1},
        overrides={"regimes": {"mart": {"train": {"epochs": 6, "weight_decay": 0.1}}}},
    )
    assert [found.settings(regime=regime).train.epochs for regime in ("pgd", "mart", "trades")] == [
        5,
        6,
        5,
    ]
    mart, trades = found.settings(regime="mart"), found.settings(regime="trades")
    assert (mart.train.weight_decay, mart.train.learning_rate) == (0.1, 0.01)
    assert (trades.train.weight_decay, trades.inner.eps, trades.inner.step) == (2e-4, 0.1, 0.007)
    for regime in ("pgd", "mart", "trades"):
        command = training_command(
            regime, found.flags(Cell("digits", "resnet8", regime), *OF_TRAINING)
        )
        assert (command.train, command.inner) == (
            found.settings(regime=regime).train,
            found.settings(regime=regime).inner,
        )


def test_the_protocol_of_the_paper_settles_what_a_file_leaves_open() -> None:
    """The values are those of Zhu et al. and their code; training keeps the regime's recipe."""
    grid = {**GRID, "datasets": list(get_args(config.DatasetName)), "regimes": ["pgd", "trades"]}
    found, plain = experiment(grid=grid, protocol="paper"), experiment(grid=grid)
    for dataset in grid["datasets"]:
        settings = found.settings(dataset, "resnet8", "trades")
        measure, choice, ood = settings.criticality, settings.interpolate, settings.evaluate.ood
        assert (measure.method, measure.epochs, measure.batch_size, measure.images) == (
            "published",
            10,
            512,
            "all",
        )
        assert measure.split == ("train" if dataset == "tiny-imagenet" else "test")
        assert (choice.selection, choice.tolerance, choice.restarts) == ("test", 0.1, 3)
        assert (len(ood.names), ood.severities) == (
            18,
            (1,) if dataset == "tiny-imagenet" else (1, 2, 3, 4, 5),
        )
        assert (settings.attack, settings.evaluate.pgd.restarts) == (config.Attack(), 3)
        assert (settings.finetune.batch_norm, settings.finetune.epochs) == ("train", 10)
        assert settings.augment.crop == (8 if dataset == "tiny-imagenet" else 4)
        for section in ("train", "inner", "trades"):
            ours = plain.settings(dataset, "resnet8", "trades")
            assert settings.section(section) == ours.section(section)
        assert plain.settings(dataset).interpolate.selection == "validation"


def test_a_file_goes_over_the_protocol_and_overrides_over_both() -> None:
    grid = {**GRID, "datasets": ["cifar10", "tiny-imagenet"]}
    found = experiment(
        grid=grid,
        protocol="paper",
        # Five epochs are a setting of the search method that the protocol chooses.
        # The split of the protocol overrides the splits of data sets.
        criticality={"epochs": 5, "split": "validation"},
        evaluate={"ood": {"severities": [2, 4]}},
        overrides={
            "datasets": {
                "cifar10": {"interpolate": {"tolerance": 1}, "criticality": {"split": "train"}}
            }
        },
    )
    cifar10, tiny = (found.settings(dataset) for dataset in grid["datasets"])
    assert (cifar10.criticality.method, cifar10.criticality.epochs) == ("published", 5)
    assert (cifar10.criticality.split, tiny.criticality.split) == ("train", "validation")
    assert (cifar10.interpolate.tolerance, tiny.interpolate.tolerance) == (1, 0.1)
    assert cifar10.evaluate.ood.severities == tiny.evaluate.ood.severities == (2, 4)
    assert "--interpolate.selection test" in found.flags(None, "interpolate", dataset="cifar10")
    assert (
        experiment(protocol="paper", criticality={"method": "pga"})
        .settings("digits")
        .criticality.method
        == "pga"
    )


def test_mistakes_beside_a_protocol_get_their_usual_messages() -> None:
    for sections, problem in (
        ({"protocol": "ours"}, "protocol: 'ours' is not available; available: 'paper'"),
        ({"protocol": ["paper"]}, "protocol: .* is not available"),
        (
            {"protocol": "paper", "criticality": {"epochs": {"a": 1}}},
            "criticality.epochs: Input should be a valid integer",
        ),
        ({"protocol": "paper", "interpolate": "fast"}, "interpolate: must be a section of keys"),
        (
            {"protocol": "paper", "criticality": {"norm": "linf"}},
            "the method published supports only l2",
        ),
        (
            {"evaluate": {"ood": {"severities": [2, 1]}}},
            "evaluate.ood.severities: must be strictly increasing",
        ),
        (
            {"evaluate": {"ood": {"severities": [6]}}},
            "severities.0: Input should be less than or equal to 5",
        ),
    ):
        with pytest.raises(RiftError, match=problem):
            experiment(**sections)


@pytest.mark.parametrize("regime", REGIME_NAMES)
@pytest.mark.parametrize("method", ["fgsm-rs", "n-fgsm"])
def test_the_steps_of_a_recipe_are_those_of_pgd_and_of_no_other_inner_attack(
    regime: config.RegimeName, method: str
) -> None:
    in_overrides = {"overrides": {"regimes": {regime: {"inner": {"method": method}}}}}
    grid = {**GRID, "regimes": [regime]}
    for settings in (
        training_command(regime, f"--inner.method {method}").settings,
        experiment(grid=grid, inner={"method": method}).settings(regime=regime),
        experiment(grid=grid, **in_overrides).settings(regime=regime),
    ):
        assert (settings.inner.start, settings.inner.step, settings.inner.steps) == (
            "uniform",
            None,
            None,
        )
        assert settings.inner.eps == training_command(regime).inner.eps
    assert training_command(regime, f"--inner.method {method} --inner.step 0.02").inner.step == 0.02


@pytest.mark.parametrize("regime", ["trades", "mart", "score", "trades-awp"])
def test_under_another_threat_model_training_follows_it_and_not_the_recipe(
    regime: config.RegimeName,
) -> None:
    """Otherwise, training for 0.2 would silently use 0.031."""
    found = experiment(grid={**GRID, "regimes": [regime]}, attack={"eps": 0.2, "step": 0.05})
    from_file = found.settings(regime=regime)
    for settings in (
        from_file,
        training_command(regime, "--attack.eps 0.2 --attack.step 0.05").settings,
        training_command(
            regime, found.flags(Cell("digits", "resnet8", regime), *OF_TRAINING)
        ).settings,
    ):
        assert (settings.inner.start, settings.inner.eps, settings.inner.step) == (
            "normal",
            None,
            None,
        )
        assert settings.train == from_file.train
    usual = training_command(regime, "--attack.eps 8/255").settings
    assert usual.inner == training_command(regime).inner
    assert usual.inner.eps == (0.031 if regime in ("trades", "mart") else None)


def test_a_setting_of_one_regime_changes_the_flags_of_no_other() -> None:
    """Snakemake runs a job again exactly when its flags change."""
    grid = {**GRID, "regimes": list(REGIME_NAMES)}
    before = experiment(grid=grid)
    for section, changed in {
        "trades": {"trades": {"beta": 3}},
        "mart": {"mart": {"beta": 3}},
        "score": {"score": {"beta": 3}},
        "awp": {"awp": {"warmup": 3}},
    }.items():
        after = experiment(grid=grid, **changed)
        differing = {
            regime
            for regime in REGIME_NAMES
            if before.flags(Cell("digits", "resnet8", regime), *OF_TRAINING)
            != after.flags(Cell("digits", "resnet8", regime), *OF_TRAINING)
        }
        concerned = {
            regime
            for regime in REGIME_NAMES
            if f"--{section}." in before.flags(Cell("digits", "resnet8", regime), "regime")
        }
        assert (
            differing
            == concerned
            == {regime for regime in REGIME_NAMES if section in regime.split("-")}
        )


@pytest.mark.parametrize(
    ("given", "count"), [("rift", 18), ("robustbench", 15), (["fog", "snow"], 2), (["fog"], 1)]
)
def test_corruptions_are_a_list_or_the_name_of_one_in_files_and_flags(
    given: str | list[str], count: int
) -> None:
    found = experiment(evaluate={"ood": {"corruptions": given}})
    assert len(set(found.evaluate.ood.names)) == count
    assert found.corruptions("digits") == found.evaluate.ood.names
    files = [
        "--weights",
        "w",
        "--data",
        "d",
        "--corrupted",
        "c",
        "--output",
        "o.csv",
        "--outcomes",
        "p.npz",
    ]
    command = parse_command("evaluate", "ood", *files, *found.flags(None, "evaluate.ood").split())
    assert isinstance(command, EvaluateOod)
    assert command.evaluate.ood == found.evaluate.ood


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            "fog",
            "corruptions: must be a list of corruptions, or the name of a list: rift or robustbench"
            " \\(found 'fog'",
        ),
        (
            ["fog", "rift"],
            "corruptions.1: 'rift' is not available; available: 'gaussian_noise', 'shot_noise'",
        ),
        (["fog", "fog"], "corruptions: must not contain a value twice; repeated: fog"),
        ([["rift"]], "corruptions.0: \\['rift'\\] is not available"),
        (3, "corruptions: must be a list \\(found 3"),
    ],
)
def test_mistakes_in_a_list_of_corruptions_get_one_message(given: object, problem: str) -> None:
    with pytest.raises(RiftError, match=f"x.yaml: 1 problem\n  evaluate.ood.{problem}"):
        experiment(evaluate={"ood": {"corruptions": given}})


def test_the_grid_survives_as_flags() -> None:
    grid = {
        **GRID,
        "architectures": ["vit-small", "timm:test_vit"],
        "seeds": [3, 1],
        "scopes": ["rift", "module-layer1.0.conv1"],
        "autoattack": [],
    }
    found = experiment(grid=grid)
    words = [
        "table",
        "main",
        "--results",
        "r",
        "--output",
        "a.csv,b.md",
        *found.flags(None, "grid").replace("'", "").split(),
    ]
    command = parse_command(*words)
    assert isinstance(command, Table)
    assert command.grid == found.grid
    assert command.output == (Path("a.csv"), Path("b.md"))


def test_a_scope_gets_the_settings_that_it_reads_and_no_others() -> None:
    cell = Cell("digits", "resnet8", "trades")

    def flags(scope: config.Scope, **sections: object) -> str:
        return experiment(grid={**GRID, "regimes": ["trades"]}, **sections).finetune_flags(
            cell, scope
        )

    continuing = {"more-training", "mixed-training"}
    changes: tuple[tuple[dict[str, Any], set[str]], ...] = (
        ({"inner": {"steps": 3}}, continuing),
        ({"continuation": {"epochs": 2}}, {"more-training"}),
        ({"mixed": {"clean_share": 0.5}}, {"mixed-training"}),
        ({"trades": {"beta": 3}}, continuing),
        ({"attack": {"eps": 0.2}}, {*continuing, "statistics-attacked"}),
        ({"finetune": {"batch_size": 7}}, set(SCOPES)),
    )
    for change, scopes in changes:
        assert {scope for scope in SCOPES if flags(scope, **change) != flags(scope)} == scopes

    asked = experiment(grid={**GRID, "regimes": ["trades"]}, trades={"beta": 3})
    for scope in (*SCOPES, "module-conv1"):
        given = asked.finetune_flags(cell, scope).replace("'", "").split()
        command = parse_command(*FINETUNE, "--scope", scope, *given)
        assert isinstance(command, Finetune)
        settings = command.settings_for_provenance()
        if scope in continuing:
            assert (settings["regime"], settings["trades"]) == ("trades", {"beta": 3})
            assert "mart" not in settings
            wanted = asked.settings_of(cell)
            assert (command.train, command.inner) == (wanted.train, wanted.inner)
        else:
            own = {"attack"} if scope == "statistics-attacked" else set()
            assert set(settings) == {"scope", "finetune", "augment", *own}


def test_a_scope_that_starts_from_another_one_needs_it() -> None:
    with pytest.raises(RiftError, match=r"add more-training to scopes"):
        experiment(grid={**GRID, "scopes": ["rift", "earn-then-spend"]})
    with pytest.raises(RiftError, match=r"add rift to scopes"):
        experiment(grid={**GRID, "scopes": ["norms", "rift-then-spend"], "autoattack": []})
    both = experiment(grid={**GRID, "scopes": ["earn-then-spend", "more-training", "rift"]})
    cell = Cell("digits", "resnet8", "pgd")
    assert "--spend.gammas" in both.interpolate_flags(cell, "earn-then-spend")
    assert "--spend" not in both.interpolate_flags(cell, "more-training")


@pytest.mark.parametrize(
    ("scope", "words", "problem"),
    [
        ("rift", ["--inner.steps", "3"], "--inner.steps: not a setting of scope rift"),
        ("statistics", ["--attack.eps", "0.1"], "--attack.eps: not a setting of scope statistics"),
        (
            "more-training",
            ["--regime", "pgd", "--mart.beta", "3"],
            "--mart.beta: not a setting of scope more-training, regime pgd",
        ),
        ("rift", ["--method", "at"], "--method: not a setting of scope rift"),
        (
            "more-training",
            ["--mixed.clean_share", "0.5"],
            "--mixed.clean_share: not a setting of scope more-training",
        ),
        (
            "more-training",
            ["--method", "at", "--train.epochs", "3"],
            "--train.epochs: not a setting of scope more-training, method at",
        ),
        (
            "more-training",
            ["--method", "twins-at"],
            "twins-at cannot be continued by the scope more-training: .* or the method at",
        ),
    ],
)
def test_settings_that_a_scope_does_not_read_are_refused(
    scope: str, words: list[str], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        parse_command(*FINETUNE, "--scope", scope, *words)


def test_the_schema_is_current(repository: Path) -> None:
    schema = json.loads((repository / "config/schema.json").read_text())
    assert schema == config.schema(), (
        "config/schema.json is stale: rift schema > config/schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_run_s_base_is_that_of_the_first_entry_that_fits() -> None:
    found = experiment(
        grid={
            **GRID,
            "datasets": ["digits", "cifar10"],
            "regimes": ["standard", "pgd"],
            "seeds": [0, 1],
        },
        base=[
            {"regime": "pgd", "seed": 1, "weights": "train"},
            {"regime": "pgd", "weights": "a b.pth", "normalization": "none"},
            {"dataset": "cifar10", "weights": "robustbench:Somebody2020"},
        ],
    )
    standard, pgd = (Cell("digits", "resnet8", regime) for regime in ("standard", "pgd"))
    assert {Run(pgd, 1), Run(standard, 0), Run(standard, 1)} <= set(found.trained)
    imported = found.imports[Run(pgd, 0)]
    assert (imported.files, imported.flags) == (
        ["a b.pth"],
        "--weights 'a b.pth' --normalization none",
    )
    assert [run for run in found.imports if run.cell.dataset == "digits"] == [Run(pgd, 0)]
    assert len(found.imports) == 4
    assert set(found.runs) == set(found.imports) | set(found.trained)
    assert found.imports[Run(Cell("cifar10", "resnet8", "standard"), 0)].files == []
    # One seed of pgd was not trained here, so it has no training history to draw.
    assert "training" in found.figures[standard]
    assert "training" not in found.figures[pgd]


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (
            {"base": [{"weights": "train", "normalization": "none"}]},
            r"base\.0: normalization and key apply only to imported",
        ),
        ({"base": {"weights": "a.pth"}}, r"base: must be a list \(found \{'weights': 'a\.pth'\}\)"),
        (
            {"base": [{"weights": "robustbench:X", "key": "ema"}]},
            r"base\.0: RobustBench networks include their norm",
        ),
        (
            {"corrupt": {"images": 20}, "evaluate": {"ood": {"images": 21}}},
            r"evaluate\.ood\.images: needs 21 corrupted images of digits, "
            r"but corrupt\.images is 20",
        ),
        (
            {"overrides": {"datasets": {"digits": {"data": {"root": "x"}}}}},
            r"overrides\.datasets\.digits\.data\.root: must not differ between data sets",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    sections: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RiftError, match=rf"^x\.yaml: 1 problem\n  {problem}"):
        experiment(**sections)


def test_a_base_that_fits_no_run_is_refused() -> None:
    with pytest.raises(
        RiftError, match=r"^x\.yaml: 1 problem\n  base\.0 \(a\.pth\) matches no run of the grid"
    ):
        experiment(base=[{"seed": 7, "weights": "a.pth"}])


def test_every_experiment_that_comes_with_rift_is_valid(repository: Path) -> None:
    validator = jsonschema.Draft202012Validator(
        json.loads((repository / "config/schema.json").read_text())
    )
    found = {path.stem: config.read(path) for path in (repository / "config").glob("*.yaml")}
    assert {
        "demo",
        "config",
        "cifar10",
        "cifar10-cpu",
        "transformer",
        "regimes",
        "regimes-demo",
    } <= set(found)
    for name, each in found.items():
        validator.validate(yaml.safe_load((repository / f"config/{name}.yaml").read_text()))
        assert each.experiment == {"config": "paper"}.get(name, name)
        # What only `rift prepare` would refuse.
        for dataset in each.datasets:
            side = each.settings(dataset).data.side
            assert side is None or dataset_named(dataset).any_size


def test_the_schema_refuses_what_the_models_refuse(repository: Path) -> None:
    schema = json.loads((repository / "config/schema.json").read_text())
    for bad in (
        {"grid": GRID},
        {"experiment": "x", "grid": GRID, "trian": {}},
        {"experiment": "x", "grid": {"datasets": []}},
        {"experiment": "x", "grid": {**GRID, "architectures": ["timm:../up"]}},
        {"experiment": "x", "grid": GRID, "overrides": {"architectures": {"vgg": {}}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_pins_ranges_and_the_conda_environment_agree(repository: Path) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = {
        canonicalize_name(line.split("==")[0]): line.split("==")[1]
        for line in lines
        if not line.startswith("#")
    }
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["workflow"]
    assert set(extras["robustbench"]) < set(extras["dev"])
    others = [text for name, texts in extras.items() if name != "workflow" for text in texts]
    for text in needed + others:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text
    environment = yaml.safe_load((repository / "environment.yml").read_text())
    *_, pip = environment["dependencies"]
    listed = dict(line.split("==") for line in pip["pip"])
    assert {canonicalize_name(name): version for name, version in listed.items()} == {
        canonicalize_name(Requirement(text).name): pins[canonicalize_name(Requirement(text).name)]
        for text in needed
    }


@pytest.mark.parametrize("weights", ["-m.pth", "{m}.pth", "a'b\"c d.pth", "[m].pth", "modèle.pth"])
def test_any_name_of_a_weight_file_survives_as_flags(weights: str) -> None:
    entry = experiment(base=[{"weights": weights, "normalization": "none"}]).base[0]
    paths = [
        "--architecture",
        "resnet8",
        "--data",
        "d",
        "--output",
        "o.safetensors",
        "--manifest",
        "m.json",
    ]
    command = parse_command("import", *shlex.split(entry.flags), *paths)
    assert isinstance(command, Import)
    assert command.weights == weights
    flags = experiment(train={"init": weights}).flags(None, "train")
    train = parse_command("train", *TRAIN_FILES, *shlex.split(flags))
    assert isinstance(train, Train)
    assert train.train.init == weights
    assert parse_command("train", *train.arguments()) == train


def test_other_locales_than_utf8_change_nothing(repository: Path) -> None:
    """In the C locale, Python reads files as ASCII unless it is told the encoding."""
    program = (
        "import sys; from pathlib import Path; from rift import config; import rift.commands.main\n"
        "assert sys.stdout.encoding != 'utf-8'\n"
        "for path in Path('config').glob('*.yaml'): config.read(path)\n"
        "sys.argv = ['rift', 'train', '--help']; rift.commands.main.main()\n"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


CIFAR10 = "0.4914,0.4822,0.4465/0.2023,0.1994,0.201"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("dataset", "dataset"),
        ("cifar10-0.2023", "cifar10-0.2023"),
        ({"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}, CIFAR10),
        ({"std": [0.2023, 0.1994, 0.2010], "mean": [0.4914, 0.4822, 0.4465]}, CIFAR10),
        ("0.4914,0.4822,0.4465/0.2023,0.1994,0.2010", CIFAR10),
        ({"mean": ["1/2"], "std": 1}, "0.5/1.0"),
    ],
)
def test_a_normalization_is_a_name_or_numbers(given: object, text: str) -> None:
    entry = experiment(base=[{"weights": "x.pth", "normalization": given}]).base[0]
    assert f"--normalization {text}" in entry.flags
    # The command line reads the flags of the workflow back.
    command = parse_command(
        "train", *TRAIN_FILES, "--train.init", "x", "--train.init_normalization", text
    )
    assert isinstance(command, Train)
    assert command.train.init_normalization == text


def test_known_normalizations_have_their_published_numbers() -> None:
    assert mean_and_std("cifar10-0.2023", 3) == (
        (0.4914, 0.4822, 0.4465),
        (0.2023, 0.1994, 0.2010),
    )
    # The code of RiFT has these for CIFAR-10 and CIFAR-100, and those of ImageNet for the rest.
    assert mean_and_std("cifar10", 3) == ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
    assert mean_and_std("imagenet", 3) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert mean_and_std("half", 3) == ((0.5,) * 3, (0.5,) * 3)
    assert mean_and_std("none", 1) == ((0.0,), (1.0,))
    assert mean_and_std(CIFAR10, 3) == mean_and_std("cifar10-0.2023", 3)
    with pytest.raises(RiftError, match="is for 3 channels, but the images have 1"):
        mean_and_std("imagenet", 1)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("cifar11", "must be dataset, cifar10, .*, MEANS/DEVIATIONS, or {mean: "),
        ({"mean": [0.5]}, "must be dataset"),
        ({"mean": [0.5], "std": [0.2, 0.3]}, "has 1 means and 2 deviations"),
        ("0.5/0", "has a deviation that is not positive"),
        ("0.5/nan", "'nan' is not a finite number"),
        ({"mean": [True], "std": [1]}, "True is not a finite number"),
        ("125.3,123,113.9/63,62.1,66.7", "divide means and deviations by 255"),
        ("0.5;0.5/1", "neither a number"),
        ([0.5, 0.5], "must be dataset"),
    ],
)
def test_other_normalizations_are_refused(given: object, problem: str) -> None:
    with pytest.raises(RiftError, match=rf"base\.0\.normalization: .*{problem}"):
        experiment(base=[{"weights": "x.pth", "normalization": given}])


def test_reading_a_configuration_does_not_import_torch() -> None:
    program = (
        "import sys, rift.config, rift.commands.main\n"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_leading_tilde_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell expands it in an experiment file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config.Data(root="~/sets").folder == tmp_path / "sets"
    monkeypatch.setenv("RIFT_DATA", "~/others")
    assert config.Data().folder == tmp_path / "others"
    base = config.ImportedBase(weights="~/m.pth")
    assert base.files == [str(tmp_path / "m.pth")]
    assert base.flags == f"--weights {tmp_path}/m.pth"
    assert config.ImportedBase(weights="./m.pth").flags == "--weights ./m.pth"
    with pytest.raises(RiftError, match="the home folder is unknown; write the path without ~no"):
        _ = config.Data(root="~nobody-of-this-name/sets").folder


def test_autoattack_runs_by_default_on_the_base_and_on_rift_where_it_is_a_scope() -> None:
    names = {"datasets": ("digits",), "architectures": ("resnet8",)}
    assert Grid.model_validate(names).autoattack == ("base", "rift")
    assert Grid.model_validate({**names, "scopes": ("top2",)}).autoattack == ("base",)


def test_the_side_is_that_of_data_sets_with_images_of_any_size() -> None:
    grid = {**GRID, "datasets": ["cifar10", "caltech-256", "image-folder:pets"]}
    found = experiment(grid=grid, data={"side": 96})
    flags = {name: found.flags(None, "data", dataset=name) for name in found.datasets}
    assert {name: "--data.side 96" in flag for name, flag in flags.items()} == {
        "cifar10": False,
        "caltech-256": True,
        "image-folder:pets": True,
    }
    with pytest.raises(RiftError, match=r"data\.side: the images of cifar10 have one size"):
        experiment(grid={**GRID, "datasets": ["cifar10"]}, data={"side": 96})
    with pytest.raises(RiftError, match=r"overrides\.datasets\.cifar10\.data\.side: the images"):
        experiment(grid=grid, overrides={"datasets": {"cifar10": {"data": {"side": 96}}}})


def test_any_size_is_said_of_the_same_data_sets_by_settings_and_sources() -> None:
    for name in [*get_args(config.DatasetName), "image-folder:x", "arrays:x", "cub-200-0-9"]:
        assert has_any_size(name) == dataset_named(name).any_size


def test_settings_that_were_added_later_are_written_only_if_they_are_set() -> None:
    """Results of earlier versions have no such key, and count as made with the same settings."""
    assert config.Augment().model_dump() == {"crop": 4, "flip": True}
    assert config.Augment(smallest_area=0.5).model_dump()["smallest_area"] == 0.5
    assert "enlarge" not in config.Transfer().model_dump()
    read = config.Augment.model_validate({"crop": 1, "flip": False})
    assert read.smallest_area is None
