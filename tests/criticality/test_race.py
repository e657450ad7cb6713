"""The race: it chooses what the whole table would, and says what it did."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rift.artifacts import provenance, read_csv
from rift.config import Criticality, Experiment, Finetune, start_of_scope
from rift.criticality import (
    Measurement,
    ModuleCriticality,
    Place,
    criticality_table,
    measure,
    measured_modules,
    module_robust_criticality,
    modules_of,
)
from rift.criticality.scopes import SCOPES
from rift.data.images import Images
from rift.errors import RiftError
from rift.models import checkpoint
from tests.commands.parsing import parse_command
from tests.criticality.test_criticality import naive

IMAGES, CLASSES = 240, 4
GRID = {"datasets": ["digits"], "architectures": ["resnet8"], "autoattack": []}
QUICK: dict[str, Any] = {"first_images": 30, "restarts": 2, "trial_images": 8, "epsilon": 0.01}


class Branches(nn.Module):
    """A sum of linear layers with weights of norm 1; the loss of each rises with its scale."""

    def __init__(self, scales: list[float], seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.scales = scales
        self.layers = nn.ModuleList(nn.Linear(9, CLASSES, bias=False) for _ in scales)
        for layer in self.layers:
            weight = torch.randn(CLASSES, 9, generator=draw)
            layer.weight.data = weight / weight.norm()

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        parts = [s * layer(pixels) for s, layer in zip(self.scales, self.layers, strict=True)]
        return torch.stack(parts).sum(0)


def some_images(count: int = IMAGES, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Return images, and labels that are sorted by class."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 3, 3, generator=draw)
    return images, torch.randint(CLASSES, (count,), generator=draw).sort().values


def raced(network: nn.Module, **asked: Any) -> dict[str, ModuleCriticality]:
    rows = module_robust_criticality(
        network, *some_images(), settings=Criticality(method="race", **QUICK, **asked), seed=0
    )
    return {row.module: row for row in rows}


def measurement(network: nn.Module, **asked: Any) -> Measurement:
    images, labels = some_images()
    return measure(
        network,
        images,
        labels,
        list(measured_modules(network)),
        settings=Criticality(method="race", **QUICK, **asked),
        seed=0,
    )


def by_first_order(network: Branches) -> list[str]:
    """Return the modules by ε‖θ‖‖∇‖: the MRC in a small ball, calculated without rift."""
    images, labels = some_images()
    weights = list(network.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(network(images), labels), weights)
    rises = [(w.detach().norm() * g.norm()).item() for w, g in zip(weights, gradients, strict=True)]
    return [f"layers.{place}" for place in np.argsort(rises)]


@settings(max_examples=8, deadline=None)
@given(
    order=strategies.permutations(range(6)),
    seed=strategies.integers(0, 1000),
    least=strategies.sampled_from([(1,), (2,), (1, 3)]),
)
def test_the_choice_is_that_of_the_whole_table_if_modules_differ_clearly(
    order: list[int], seed: int, least: tuple[int, ...]
) -> None:
    network = Branches([0.05 * 4**place for place in order], seed)
    expected = by_first_order(network)
    rows = raced(network, least=least, most=1)
    table = sorted(rows, key=lambda name: rows[name].rank)
    whole = module_robust_criticality(
        network, *some_images(), settings=Criticality(epsilon=0.01, restarts=2), seed=0
    )
    by_rank = [row.module for row in sorted(whole, key=lambda row: row.rank)]
    chosen = max(least)
    assert table[:chosen] == by_rank[:chosen] == expected[:chosen]
    assert table[-1] == by_rank[-1] == expected[-1]
    for name, row in rows.items():
        assert row.settled == (row.rank <= chosen or row.rank == 6), name
        assert np.isnan(row.mrc_upper) != row.settled


def test_clear_modules_leave_early_and_the_table_says_after_how_many_images() -> None:
    rows = raced(Branches([0.05, 0.8, 0.9, 3.0]))
    assert all(row.images < IMAGES for row in rows.values())
    # Rounds have 30, 60, 120 and 240 images.
    assert {row.images for row in rows.values()} <= {30, 60, 120}
    assert rows["layers.0"].rank == 1
    assert not rows["layers.3"].settled


def test_a_tie_takes_all_images_and_only_the_tied_modules() -> None:
    network = Branches([0.2, 0.2, 3.0, 4.0])
    network.layers[1].load_state_dict(network.layers[0].state_dict())
    rows = raced(network)
    assert [rows[f"layers.{place}"].images == IMAGES for place in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    assert rows["layers.0"].tied
    assert rows["layers.1"].tied


def test_an_order_that_no_scope_needs_is_not_settled() -> None:
    """Of two equal modules, both are chosen: which of them is first does not matter."""
    network = Branches([0.2, 0.2, 3.0, 4.0])
    network.layers[1].load_state_dict(network.layers[0].state_dict())
    assert max(row.images for row in raced(network, least=(2,)).values()) < IMAGES
    assert max(row.images for row in raced(network, least=(1, 2)).values()) == IMAGES


def test_numbers_are_those_of_the_images_that_each_module_was_measured_on() -> None:
    found = measurement(Branches([0.05, 0.8, 0.9, 3.0]))
    _, labels = some_images()
    for row, rises, kept in zip(criticality_table(found), found.rises, found.kept, strict=True):
        used = ~np.isnan(rises)
        assert row.images == used.sum()
        assert row.mrc == pytest.approx(rises[used].mean())
        assert row.mrc_error == pytest.approx(rises[used].std(ddof=1) / used.sum() ** 0.5)
        assert row.robust_loss == pytest.approx(found.losses[used].mean() + row.mrc)
        lost = found.correct[used].mean() - kept[used].mean()
        assert row.robust_accuracy_drop == pytest.approx(100 * lost)
        # The labels are sorted; still, every part contains the classes in their shares.
        counts = np.bincount(labels.numpy()[used], minlength=CLASSES) / used.sum()
        assert np.allclose(counts, np.bincount(labels.numpy()) / IMAGES, atol=0.06)


def test_rises_are_those_of_the_network_with_a_weight_in_the_ball() -> None:
    """For one linear layer and small ε, no weight in the ball raises the loss by more."""
    network = Branches([0.5, 2.0])
    images, labels = some_images()
    rows = raced(network)
    for place, weight in enumerate(network.parameters()):
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(images), labels), weight)
        first_order = 0.01 * (weight.detach().norm() * gradient.norm()).item()
        row = rows[f"layers.{place}"]
        if row.images == IMAGES:
            assert row.mrc == pytest.approx(first_order, rel=0.05)
        if row.settled:
            assert row.mrc_upper >= row.mrc


def test_equal_races_give_equal_bytes_and_leave_the_network_as_it_was() -> None:
    network = Branches([0.2, 0.3, 0.9, 3.0])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = measurement(network), measurement(network)
    assert first.rises.tobytes() == second.rises.tobytes()
    assert first.kept.tobytes() == second.kept.tobytes()
    assert repr(first.places) == repr(second.places)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_few_images_make_one_round_in_which_all_ranks_count() -> None:
    images, labels = some_images(40)
    asked = Criticality(method="race", first_images=30)
    rows = module_robust_criticality(
        Branches([0.05, 0.8, 0.9, 3.0]), images, labels, settings=asked, seed=0
    )
    assert all(row.settled and row.images == 40 for row in rows)
    pga = module_robust_criticality(
        Branches([0.05, 0.8, 0.9, 3.0]), images, labels, settings=Criticality(), seed=0
    )
    for ours, theirs in zip(rows, pga, strict=True):
        assert ours.rank == theirs.rank
        assert ours.mrc == pytest.approx(theirs.mrc, rel=0.01)


def test_excluded_modules_are_not_raced_for() -> None:
    """The first module is the least critical one, but only later ones are allowed."""
    network = Branches([0.05, 0.4, 1.6, 6.0])
    rows = raced(network, part=(0.25, 1))
    settled = [name for name, row in rows.items() if row.settled]
    assert settled == ["layers.1"]
    table = list(rows.values())
    assert modules_of("rift", table, Finetune(part=(0.25, 1))) == ["layers.1"]
    with pytest.raises(RiftError, match=r"layers\.0: the race did not settle"):
        modules_of("rift", table)


def test_scopes_refuse_a_race_that_was_not_for_them() -> None:
    rows = list(raced(Branches([0.05, 0.4, 1.6, 6.0])).values())
    assert modules_of("rift", rows) == ["layers.0"]
    assert modules_of("last-layer", rows) == ["layers.3"]
    assert modules_of("module-layers.2", rows) == ["layers.2"]
    with pytest.raises(RiftError, match=r"measure criticality again with criticality\.least 2"):
        modules_of("top2", rows)
    with pytest.raises(RiftError, match=r"measure criticality again with criticality\.most 1"):
        modules_of("robust-critical", rows)


@pytest.mark.parametrize("scope", list(SCOPES))
def test_a_race_for_a_scope_settles_what_the_scope_chooses(scope: Any) -> None:
    experiment = Experiment.model_validate(
        {
            "experiment": "race",
            "grid": {**GRID, "scopes": [*filter(None, [start_of_scope(scope), scope])]},
            "criticality": {"method": "race"},
        }
    )
    asked = experiment.settings().criticality
    least, most = max(asked.least or (1,)), asked.most or 0
    table = [
        ModuleCriticality(
            f"m{rank}", "linear", 1, rank, 0, 0, 0, rank, False, 9, settled, float("nan")
        )
        for rank in range(1, 9)
        for settled in [rank <= least or rank > 8 - most]
    ]
    assert modules_of(scope, table) is not None
    if least > 1:
        with pytest.raises(RiftError, match="did not settle"):
            modules_of(scope, [*table[:1], *(replace(row, settled=False) for row in table[1:])])


def test_an_experiment_adds_what_its_scopes_need() -> None:
    given_by_user = {
        "experiment": "race",
        "grid": {**GRID, "scopes": ["rift", "top3", "robust-critical"]},
        "criticality": {"method": "race", "least": [2]},
        "finetune": {"least_share": 0.01},
    }
    experiment = Experiment.model_validate(given_by_user)
    asked = experiment.settings().criticality
    assert (asked.least, asked.most, asked.least_share) == ((1, 2, 3), 1, 0.01)
    run = experiment.runs[0]
    assert "--criticality.least 1,2,3 --criticality.most 1" in experiment.flags(run, "criticality")
    # Other methods have no such flags: their jobs do not run again.
    plain = Experiment.model_validate(
        {"experiment": "plain", "grid": {**GRID, "scopes": ["rift", "top3"]}}
    )
    assert "least" not in plain.flags(plain.runs[0], "criticality")


def test_settings_of_the_race() -> None:
    with pytest.raises(ValueError, match="least: is a setting of the method race, but the method"):
        Criticality(least=(2,))
    with pytest.raises(ValueError, match="shards: the race compares all modules in one job"):
        Criticality(method="race", shards=2)
    assert Criticality(method="race", passes=4, restarts=0).passes == 4


def test_a_network_that_is_not_finite_is_refused() -> None:
    with pytest.raises(RiftError, match="not finite"):
        raced(Branches([0.1, float("inf")]))


def test_progress_names_modules_that_leave_and_says_whether_the_choice_is_settled() -> None:
    notes: list[str] = []

    def note(done: float, total: int, note: str = "", **_: Any) -> None:
        assert 0 <= done <= total
        notes.append(note)

    images, labels = some_images()
    module_robust_criticality(
        Branches([0.05, 0.8, 3.0]),
        images,
        labels,
        settings=Criticality(method="race", **QUICK),
        seed=0,
        progress=note,
    )
    assert any(line.startswith("layers.2: not among the chosen, after") for line in notes)
    assert any(line.startswith("choice settled on") for line in notes)


def test_a_search_to_the_end_finds_what_a_naive_published_search_does(
    prepared_model: nn.Module, digits: Images
) -> None:
    """The naive search is that of tests/criticality/test_criticality.py, on modules to the end."""
    some = digits.up_to(160)
    images, labels = some.floats(), some.labels
    names = ("layer1.0.conv1", "layer2.0.shortcut.0", "linear")
    asked = Criticality(method="race", first_images=160)
    rows = criticality_table(measure(prepared_model, images, labels, names, settings=asked, seed=0))
    published = naive(prepared_model, images, labels, Criticality(method="published"), names)
    for row in rows:
        assert row.images == 160
        assert row.mrc >= 0.999 * published[row.module], row.module


def test_a_race_by_commands_gives_its_table_through_the_merge_of_one_shard(
    prepared_model: nn.Module, prepared_set: Path, tmp_path: Path
) -> None:
    spec = checkpoint.ModelSpec("resnet8", 10, 8, (0.3,), (0.4,))
    base = tmp_path / "base.safetensors"
    checkpoint.save(base, prepared_model.state_dict(), spec, provenance("test", {}))
    flags = (
        f"--base {base} --data {prepared_set} --criticality.method race --criticality.least 1,2"
        " --criticality.most 1 --criticality.images 120 --criticality.first_images 30"
        " --criticality.restarts 1 --criticality.trial_images 8 --attack.steps 1"
    ).split()
    direct, shard, merged = (tmp_path / name for name in ("a.csv", "s.safetensors", "b.csv"))
    parse_command("criticality", *flags, "--output", str(direct)).run()
    parse_command("criticality", *flags, "--shard", "1/1", "--output", str(shard)).run()
    parse_command("merge", "criticality", "--shards", str(shard), "--output", str(merged)).run()
    assert direct.read_bytes() == merged.read_bytes()
    table = read_csv(direct, ("module", "mrc", "rank", "images", "settled"))
    chosen = table[table["settled"]]
    assert sorted(chosen["rank"])[:2] == [1, 2]
    assert chosen["rank"].max() == len(table)
    assert chosen["mrc_upper"].notna().all()
    with pytest.raises(RiftError, match="--shard 1/2: the race compares all modules in one job"):
        parse_command("criticality", *flags, "--shard", "1/2", "--output", str(shard)).run()


def table_of(rises: NDArray[np.float64], places: dict[str, Place]) -> dict[str, ModuleCriticality]:
    """Return the table of four modules with some rises on four images, by name."""
    measured = Measurement(
        [(name, "conv", 1) for name in places],
        np.ones(4, np.float32),
        np.ones(4, bool),
        np.ones(4),
        rises,
        np.zeros((4, 4), bool),
        places,
    )
    return {row.module: row for row in criticality_table(measured)}


def test_chosen_modules_rank_before_those_that_fewer_images_showed_as_less_critical() -> None:
    """The race knows that b exceeds a and that d is below c, whatever their few images say."""
    nan = float("nan")
    rises = np.array([[0.5] * 4, [0.4, 0.4, nan, nan], [1.5] * 4, [2.0, 2.0, nan, nan]])
    places = {
        "a": Place(),
        "b": Place(settled=False, at_least=0.5, at_most=1.5),
        "c": Place(),
        "d": Place(settled=False, at_least=0.5, at_most=1.5),
    }
    rows = table_of(rises, places)
    assert {name: row.rank for name, row in rows.items()} == {"a": 1, "b": 2, "d": 3, "c": 4}
    assert {name: row.images for name, row in rows.items()} == {"a": 4, "b": 2, "c": 4, "d": 2}


def test_ties_are_with_the_least_critical_module_whose_rank_counts() -> None:
    """The few images of a module that no scope may choose say nothing about the others."""
    nan = float("nan")
    rises = np.array(
        [[0.1, 0.5, nan, nan], [0.4, 0.6, 2.4, 2.6], [0.6, 0.4, 2.6, 2.4], [3.0, 3.2, 5.0, 5.2]]
    )
    rows = table_of(rises, {"a": Place(settled=False), "b": Place(), "c": Place(), "d": Place()})
    assert [rows[name].rank for name in "abcd"] == [1, 2, 3, 4]
    assert [rows[name].tied for name in "abcd"] == [False, True, True, False]
