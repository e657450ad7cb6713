"""Transfers in an experiment file: their runs, their bases, their settings and their flags."""

import shlex
from typing import Any

import pytest

from rift import config
from rift.commands.finetune import Finetune
from rift.commands.report import Figure
from rift.commands.transfer import Transfer
from rift.config import TRANSFER_FIGURES
from rift.errors import RiftError
from rift.layout import Cell, Run
from tests.commands.parsing import parse_command

PAIR = "digits-0-4-to-digits-5-9"
GRID = {
    "datasets": ["digits-0-4"],
    "architectures": ["resnet8"],
    "regimes": ["trades", "pgd"],
    "seeds": [3],
    "transfers": [PAIR],
    "methods": ["at", "twins-trades"],
}
TWINS = Run(Cell(PAIR, "resnet8", "twins-trades"), 3)


def experiment(grid: dict[str, Any] | None = None, **sections: Any) -> config.Experiment:
    return config.parse({"experiment": "x", "grid": {**GRID, **(grid or {})}, **sections}, "x.yaml")


def test_a_transfer_is_a_run_whose_base_comes_from_the_run_of_the_source() -> None:
    found = experiment()
    names = [run.name for run in found.runs]
    assert names == [
        "runs/digits-0-4/resnet8/trades/seed3",
        "runs/digits-0-4/resnet8/pgd/seed3",
        f"transfers/{PAIR}/resnet8/at/seed3",
        f"transfers/{PAIR}/resnet8/twins-trades/seed3",
    ]
    assert [run.name for run in found.trained] == names[:2]
    assert {run.name: source.name for run, source in found.transferred.items()} == {
        names[2]: names[1],
        names[3]: names[1],
    }
    other = experiment({"source_regime": "trades"})
    assert {source.name for source in other.transferred.values()} == {names[0]}
    assert found.datasets == ["digits-0-4", "digits-5-9"]


def test_a_transfer_is_continued_by_its_method_with_the_settings_of_the_transfer() -> None:
    grid = {"methods": ["at", "trades"], "scopes": ["more-training", "earn-then-spend"]}
    found = experiment(grid | {"autoattack": []}, trades={"beta": 3}, transfer={"batch_size": 7})
    files = "--base b --criticality c --data d --output o.safetensors --history h.csv"
    for method, own in (("at", set[str]()), ("trades", {"trades"})):
        cell = Cell(PAIR, "resnet8", method)
        flags = shlex.split(found.finetune_flags(cell, "more-training"))
        command = parse_command("finetune", *files.split(), "--scope", "more-training", *flags)
        assert isinstance(command, Finetune)
        settings = command.settings_for_provenance()
        read = {"continuation", "transfer", "attack", "inner", "method"} | own
        assert set(settings) == {"scope", "finetune", "augment"} | read
        assert (command.method, command.transfer.batch_size) == (method, 7)
        assert command.trades.beta == (3 if own else 6)
        # What follows needs to know nothing of the method.
        assert "--method" not in found.finetune_flags(cell, "earn-then-spend")
    run = Cell("digits-0-4", "resnet8", "trades")
    assert "--method" not in found.finetune_flags(run, "more-training")


def test_twins_cannot_be_continued_because_the_frozen_wing_is_gone() -> None:
    with pytest.raises(RiftError, match="twins-trades cannot be continued by the scope more-train"):
        experiment({"scopes": ["rift", "more-training"]})


def test_the_table_of_transfers_belongs_to_experiments_with_transfers() -> None:
    assert "transfer" in experiment().tables
    runs: dict[str, Any] = {"transfers": []}
    assert set(experiment().tables) - set(experiment(runs).tables) == {"transfer"}
    with pytest.raises(RiftError, match=r"report\.tables: contains transfer, but grid\.transfers"):
        experiment(runs, report={"tables": ["main", "transfer"]})


def test_the_table_of_controls_belongs_to_experiments_with_a_scope_and_its_control() -> None:
    with_control = experiment({"scopes": ["rift", "robust-critical"]})
    assert with_control.grid.controls == [("rift", "robust-critical")]
    assert "controls" in with_control.tables
    without = {"scopes": ["rift", "top2"]}
    assert set(with_control.tables) - set(experiment(without).tables) == {"controls"}
    with pytest.raises(RiftError, match=r"report\.tables: contains controls, but grid\.scopes has"):
        experiment(without, report={"tables": ["main", "controls"]})


def test_a_base_can_be_imported_for_the_source_but_not_for_a_transfer() -> None:
    found = experiment(base=[{"weights": "base.pth", "regime": "pgd"}])
    assert [run.name for run in found.imports] == ["runs/digits-0-4/resnet8/pgd/seed3"]
    everything = experiment(base=[{"weights": "base.pth"}])
    assert all(run.cell.kind == "runs" for run in everything.imports)


def test_settings_of_a_transfer_are_those_of_its_method_and_its_target() -> None:
    found = experiment(
        transfer={"epochs": 9},
        overrides={
            "methods": {"twins-trades": {"twins": {"frozen_weight": 0.9}}},
            "regimes": {"pgd": {"augment": {"crop": 2}}},
            "datasets": {
                "digits": {"transfer": {"epochs": 8, "batch_size": 16}},
                "digits-5-9": {"transfer": {"epochs": 7}},
                "digits-0-4": {"transfer": {"epochs": 6}},
            },
        },
    )
    chosen = found.settings_of(TWINS)
    assert (chosen.transfer.epochs, chosen.transfer.batch_size) == (7, 16)
    assert (chosen.twins.frozen_weight, chosen.augment.crop) == (0.9, 4)
    assert found.settings_of(f"transfers/{PAIR}/resnet8/at/seed3").twins.frozen_weight == 0.3
    assert found.settings().transfer.epochs == 9


def test_the_recipe_of_a_target_fills_what_the_file_leaves_open() -> None:
    grid = {"datasets": ["cifar100"], "transfers": ["cifar100-to-cifar10"]}
    cell = Cell("cifar100-to-cifar10", "resnet8", "twins-trades")
    chosen = experiment(grid).settings_of(cell)
    assert (chosen.transfer.weight_decay, chosen.twins.frozen_weight) == (1e-5, 1.0)
    given = experiment(grid, transfer={"weight_decay": 0.1}).settings_of(cell)
    assert (given.transfer.weight_decay, given.twins.frozen_weight) == (0.1, 1.0)


def test_flags_of_a_transfer_are_read_back_as_its_settings() -> None:
    """Only the flags of its own method: another λ does not run a baseline again."""
    found = experiment(twins={"frozen_weight": 0.45, "kl": "published"}, trades={"beta": 2})
    sections = ("transfer", "attack", "inner", "augment", "regime")
    words = shlex.split(found.flags(TWINS.name, *sections))
    files = ["--base", "b", "--data", "d", "--output", "o.safetensors", "--history", "h.csv"]
    read = parse_command("transfer", *files, "--method", "twins-trades", *words)
    assert isinstance(read, Transfer)
    chosen = found.settings_of(TWINS)
    for name in ("transfer", "attack", "inner", "augment", "twins", "trades"):
        assert getattr(read, name) == chosen.section(name), name
    assert "--twins" not in found.flags(f"transfers/{PAIR}/resnet8/at/seed3", *sections)


def test_the_grid_of_a_figure_has_the_cell_alone() -> None:
    found = experiment()
    for cell in (TWINS.cell, Cell("digits-0-4", "resnet8", "trades")):
        words = shlex.split(found.flags(cell, "grid"))
        read = parse_command("figure", "training", "--results", "r", "--output", "a.png", *words)
        assert isinstance(read, Figure)
        assert read.grid.cells == [cell]
    words = shlex.split(found.flags(None, "grid", dataset="digits-5-9"))
    read = parse_command("figure", "contact-sheet", "--results", "r", "--output", "a.png", *words)
    assert isinstance(read, Figure)
    assert {cell.dataset for cell in read.grid.cells} == {"digits-5-9"}


def test_figures_of_transfers_are_those_of_twins_with_a_baseline() -> None:
    found = experiment({"methods": ["at", "trades", "twins-trades"]})
    others = found.figures[Cell("digits-0-4", "resnet8", "pgd")]
    assert not {*TRANSFER_FIGURES} & {*others}
    baseline = TWINS.cell._replace(regime="trades")
    assert found.figures[baseline] == others
    assert {*found.figures[TWINS.cell]} == {*others, *TRANSFER_FIGURES}
    for name in TRANSFER_FIGURES:
        assert found.shown_by(name, TWINS.cell) == [baseline, TWINS.cell]
    assert found.shown_by("training", TWINS.cell) == [TWINS.cell]
    # at is the baseline of another method.
    alone = experiment({"methods": ["at", "twins-trades"]})
    assert not {*TRANSFER_FIGURES} & {*alone.figures[TWINS.cell]}
    report = {"figures": ["training", "transfer-mechanism"]}
    with pytest.raises(
        RiftError, match=r"report\.figures: contains transfer-mechanism, but no tra"
    ):
        experiment({"methods": ["at", "twins-trades"]}, report=report)
    assert experiment({"methods": ["trades", "twins-trades"]}, report=report)


IMAGENET: dict[str, Any] = {
    "datasets": [],
    "architectures": ["timm:resnet50"],
    "transfers": ["imagenet-to-cifar10"],
}


def test_a_source_without_images_is_imported_and_nothing_else_is_run_on_it() -> None:
    found = experiment(IMAGENET, base=[{"dataset": "imagenet", "weights": "robust.pth"}])
    (source,) = found.imports
    assert source.name == "runs/imagenet/timm:resnet50/pgd/seed3"
    assert set(found.transferred.values()) == {source}
    assert {run.cell.kind for run in found.runs} == {"transfers"}
    assert (found.trained, found.datasets) == ([], ["cifar10"])


@pytest.mark.parametrize(
    "base",
    [
        [],
        [{"weights": "train"}],
        [{"dataset": "imagenet", "architecture": "resnet18", "weights": "robust.pth"}],
    ],
)
def test_a_source_without_images_needs_weights(base: list[dict[str, str]]) -> None:
    grid = {**IMAGENET, "architectures": ["timm:resnet50", "resnet18"]}
    with pytest.raises(RiftError, match=r"imagenet cannot be trained here; .*timm:resnet50, weigh"):
        experiment(grid, base=base)


@pytest.mark.parametrize(
    ("grid", "problem"),
    [
        ({"datasets": ["imagenet"]}, "'imagenet' is not available"),
        ({"transfers": ["digits"]}, "grid.transfers.0: 'digits' is not of the form SOURCE-to"),
        ({"transfers": ["digits-0-4-to-digits-4-9"]}, "source and target share classes"),
        ({"transfers": ["digits-0-4-to-digits"]}, "source and target share classes"),
        ({"transfers": ["cifar10-to-digits"]}, "needs bases of cifar10; add cifar10 to grid"),
        ({"datasets": []}, f"{PAIR} needs bases of digits-0-4"),
        ({"datasets": [], "transfers": []}, "datasets must not be empty"),
        ({"source_regime": "mart"}, "is mart, which grid.regimes does not contain"),
        ({"methods": ["twins"]}, "'twins' is not available; available: 'at'"),
        (
            {"architectures": ["resnet8", "vit-w96"]},
            "methods contains twins-trades, but vit-w96 has no batch norm; remove it from methods",
        ),
        ({"datasets": ["digits-a-b"]}, "or: NAME-FIRST-LAST for some classes of a data set"),
    ],
)
def test_a_transfer_that_cannot_be_run_is_refused(grid: dict[str, Any], problem: str) -> None:
    with pytest.raises(RiftError) as caught:
        experiment(grid)
    assert problem in str(caught.value)
