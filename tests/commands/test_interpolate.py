"""``rift interpolate`` in two directions: earned weights, then weights fine-tuned from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from rift import artifacts, config, data
from rift.commands import main
from rift.commands.finetune import Interpolate
from rift.interpolation import Point, select
from rift.layout import Cell, Run, selection, sweep
from rift.models import checkpoint
from rift.models.checkpoint import ModelSpec
from rift.models.state import snapshot
from rift.reporting.results import Results
from tests.commands.parsing import parse_command
from tests.results import a_grid

CELL = Cell("digits", "resnet8", "pgd")
SCOPE: config.Scope = "earn-then-spend"


@pytest.fixture
def given(
    prepared_model: nn.Module, prepared: data.Prepared, prepared_set: Path, tmp_path: Path
) -> dict[str, Any]:
    """Return the arguments of a sweep; the earned weights are better than the base."""
    spec = ModelSpec("resnet8", 10, 8, prepared.mean, prepared.std)
    earned = snapshot(prepared_model)
    names = ("base", "earned", "finetuned")
    states = {name: {key: theta.clone() for key, theta in earned.items()} for name in names}
    states["base"]["linear.bias"][:5] -= 6
    states["finetuned"]["linear.bias"][5:] -= 6
    for name, state in states.items():
        checkpoint.save(
            tmp_path / f"{name}.safetensors", state, spec, artifacts.provenance("t", {})
        )
    run = tmp_path / Run(CELL, 0).name
    return {
        **{name: tmp_path / f"{name}.safetensors" for name in names},
        "data": prepared_set,
        "interpolate": config.Interpolate(alphas=(0, 0.5), images=60, restarts=1, tolerance=5),
        "attack": config.Attack(eps=0.05, step=0.05, steps=1),
        "device": "cpu",
        "sweep": run / sweep(SCOPE),
        "output": run / SCOPE / "selected.safetensors",
        "choice": run / selection(SCOPE),
    }


def test_the_point_of_two_directions_is_chosen_written_and_read(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run(Interpolate(**given, spend=config.Spend(gammas=(0, 0.5, 1))))
    columns = ("alpha", "standard_accuracy", "adversarial_accuracy", "gamma")
    table = artifacts.read_csv(given["sweep"], columns)
    assert table[["gamma", "alpha"]].to_numpy().tolist() == [
        [gamma, alpha] for gamma in (0, 0.5, 1) for alpha in (0, 0.5)
    ]
    points = [Point(*row) for row in table[list(columns)].itertuples(index=False)]
    best = select(points, 5)
    choice = artifacts.read_json(given["choice"])
    assert (choice["gamma"], choice["alpha"]) == (best.gamma, best.alpha) == (1, 0)
    assert "gamma 1, alpha 0 selected" in capsys.readouterr().err
    found, _ = artifacts.read_weights(given["output"])
    wanted, _ = artifacts.read_weights(given["earned"])
    assert torch.equal(found["linear.bias"], wanted["linear.bias"])

    results = Results(tmp_path, a_grid(seeds=(0,), scopes=(SCOPE,), autoattack=()))
    rows = results.sweep(CELL, SCOPE)
    base = points[0]
    at_gamma = [point for point in points if point.gamma == 1]
    assert rows["alpha"].tolist() == [0, 0.5]
    assert rows["standard_change"].tolist() == pytest.approx(
        [point.standard_accuracy - base.standard_accuracy for point in at_gamma]
    )
    assert rows["adversarial_change"].tolist() == pytest.approx(
        [point.adversarial_accuracy - base.adversarial_accuracy for point in at_gamma]
    )
    assert rows["standard_change"][0] > 0


def test_without_earned_weights_there_is_one_direction(given: dict[str, Any]) -> None:
    main.run(Interpolate(**{**given, "earned": None}))
    table = artifacts.read_csv(given["sweep"], ("alpha",))
    assert list(table) == ["alpha", "standard_accuracy", "adversarial_accuracy"]
    choice = artifacts.read_json(given["choice"])
    assert "gamma" not in choice
    assert "spend" not in choice["provenance"]["settings"]


def test_gammas_without_earned_weights_are_refused() -> None:
    files = [
        word
        for name in ("base", "finetuned", "data", "sweep", "output", "choice")
        for word in (f"--{name}", f"{name}.csv")
    ]
    with pytest.raises(ValidationError, match=r"--spend\.gammas: not a setting of a sweep without"):
        parse_command("interpolate", *files, "--spend.gammas", "0,1")
