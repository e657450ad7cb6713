"""A time budget, and interrupted work, of ``rift.improve``."""

import re
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rift
from rift import config
from rift.api.budget import written
from rift.api.costs import LEAST, Amounts, Speed, costs_of
from rift.api.given import settings_of
from rift.data.images import Images
from rift.errors import RiftError
from tests.interrupted import KeepEverything, loaded

FAST: dict[str, Any] = {
    "attack": {"eps": 0.05, "step": 0.05, "steps": 1},
    "criticality": {"images": 32, "steps": 1, "restarts": 1, "passes": 2},
    "finetune": {"epochs": 2, "learning_rate": 0.3, "batch_size": 32},
    "augment": {"crop": 1, "flip": False},
    "interpolate": {"alphas": (0, 1), "images": 50, "restarts": 1, "tolerance": 50},
    "pgd": {"restarts": 1, "batch_size": 20},
}


class Counted(nn.Module):
    """A small network that counts the images of its passes, forward and back."""

    forward_images = 0
    back_images = 0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Conv2d(1, 4, 3)
        self.two = nn.Linear(4 * 36, 10)

    def forward(self, images: Tensor) -> Tensor:
        Counted.forward_images += len(images)
        logits: Tensor = self.two(self.one(images).relu().flatten(1))
        if logits.requires_grad:
            logits.register_hook(self.count)
        return logits

    @staticmethod
    def count(gradient: Tensor) -> None:
        Counted.back_images += len(gradient)


@pytest.fixture(scope="module")
def splits(digits: Images) -> dict[str, Any]:
    return {
        "train": digits.take(slice(0, 64)),
        "validation": digits.take(slice(64, 128)),
        "test": digits.take(slice(128, 168)),
    }


def test_every_state_leads_to_the_same_result(splits: dict[str, Any]) -> None:
    """Every step is computed once; fine-tuning and evaluation continue within."""
    keep = KeepEverything()
    whole = rift.improve(Counted(), **splits, **FAST, budget="2h", progress=False, work=keep)
    assert whole.gained
    # The budget, criticality, every batch and epoch of two, the sweep, and every block of images.
    assert len(keep.saved) == 1 + 1 + (2 * (2 + 1) + 1) + 1 + 2 * (2 + 1)
    for number, content in enumerate(keep.saved):
        torch.manual_seed(number)
        Counted.back_images = 0
        work = KeepEverything(loaded(content))
        other = rift.improve(Counted(), **splits, **FAST, budget="2h", progress=False, work=work)
        assert len(work.saved) == len(keep.saved) - number - 1
        for name in ("mrc", "history", "sweep", "accuracy"):
            left, right = getattr(whole, name), getattr(other, name)
            assert left.to_csv() == right.to_csv(), (number, name)
            assert list(left.dtypes) == list(right.dtypes)
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name]), number
        assert other.summary() == whole.summary()
    assert Counted.back_images == 0  # everything was finished


def test_a_budget_that_is_too_short_is_refused(digits: Images) -> None:
    train, validation, test = (digits.take(slice(at, at + 300)) for at in (0, 300, 600))
    asked: dict[str, Any] = {**FAST, "interpolate": {**FAST["interpolate"], "images": "all"}}
    asked["interpolate"]["restarts"] = 3
    asked["attack"] = {**FAST["attack"], "steps": 40}
    with pytest.raises(RiftError, match=r"budget: 0\.001s is too short") as refused:
        rift.improve(
            Counted(), train, validation, test=test, budget="0.001s", progress=False, **asked
        )
    message = str(refused.value)
    assert "100 images for criticality" not in message  # no more than the settings say
    assert "2 epochs on 300 images, 200 images for the selection, 200 test images" in message
    assert "ms per image forward" in message
    assert re.search(r"takes about \d+s: allow \d+s, or lower attack.steps", message)


def test_a_short_time_takes_fewer_starts_and_values_of_alpha(digits: Images) -> None:
    """Between what fits with the given settings and what does not fit at all."""
    train, validation, test = (digits.take(slice(at, at + 250)) for at in (0, 300, 600))
    asked: dict[str, Any] = {
        **FAST,
        "attack": {"eps": 0.05, "step": 0.01, "steps": 20},
        "interpolate": {"alphas": [x / 20 for x in range(21)], "restarts": 30, "tolerance": 50},
        "pgd": {"restarts": 30},
    }
    with pytest.raises(RiftError, match="is too short") as refused:
        rift.improve(
            Counted(), train, validation, test=test, budget="5.6s", progress=False, **asked
        )
    said = re.search(
        r"interpolate.restarts 1, interpolate.alphas 0.0,0.2,0.4,0.6,0.8,1.0, pgd.restarts 1\)"
        r" takes about \d+s: allow (\d+)s",
        str(refused.value),
    )
    assert said is not None, refused.value
    least = f"{int(said[1]) + 2}s"
    result = rift.improve(
        Counted(), train, validation, test=test, budget=least, progress=False, **asked
    )
    assert list(result.sweep["alpha"]) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert result.settings["pgd"]["restarts"] == result.settings["interpolate"]["restarts"] == 1
    assert "pgd.restarts 1" in result.summary()
    rich = rift.improve(
        Counted(), train, validation, test=test, budget="2h", progress=False, **FAST
    )
    assert "pgd.restarts" not in rich.summary()


@pytest.mark.parametrize("method", ["pga", "published", "gradient", "race"])
def test_a_short_time_changes_only_what_the_search_reads(method: str, digits: Images) -> None:
    asked: dict[str, Any] = {"criticality": {"method": method}, "interpolate": {"alphas": (0, 1)}}
    splits = (digits.take(slice(at, at + 250)) for at in (0, 300))
    with pytest.raises(RiftError, match=r"; .*interpolate\.restarts 1, .*\) takes") as refused:
        rift.improve(Counted(), *splits, budget="0.001s", progress=False, **asked)
    assert ("criticality.restarts 3" in str(refused.value)) == (method in ("pga", "race"))


@pytest.mark.parametrize("method", ["pga", "published", "gradient"])
def test_the_costs_are_the_passes_that_are_made(
    method: Any, splits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that survive all attacks and whole passes take what is expected at most."""
    criticality: dict[str, Any] = {"method": method, "images": 64, "cache_mib": 0, "batch_size": 8}
    asked = {
        **FAST,
        "criticality": criticality,
        # A step of nearly no length: whatever is classified correctly survives.
        "attack": {"eps": 1e-9, "step": 1e-9, "steps": 3},
        "interpolate": {"alphas": (0, 0.5, 1), "restarts": 2},
        "pgd": {"restarts": 3},
    }
    network = Counted()
    # All images are of the class that the network predicts, so that nothing is gained.
    given: dict[str, Any] = {
        name: Images(images.floats(), network(images.floats()).argmax(1))
        for name, images in splits.items()
    }
    monkeypatch.setattr(Counted, "forward_images", 0)
    monkeypatch.setattr(Counted, "back_images", 0)
    assert not rift.improve(network, **given, **asked, progress=False).gained
    amounts = Amounts(criticality=64, finetune=64, epochs=2, selection=64, test=40)
    back, forward = (
        costs_of(speed, {"one": 0.0, "two": 0.0}, settings_of(**asked), 64, autoattack=False)
        for speed in (Speed(forward=0, both=1), Speed(forward=1, both=1))
    )
    # The base is not evaluated a second time.
    assert Counted.back_images == pytest.approx(back.of(amounts) - 20 * back.test, rel=0.1)
    assert Counted.forward_images == pytest.approx(forward.of(amounts) - 20 * forward.test, rel=0.1)


def test_numbers_are_scaled_together_and_have_a_least() -> None:
    most = Amounts(criticality=1000, finetune=45000, epochs=10, selection=5000, test=10000)
    half, least = most.scaled(0.5), most.scaled(0)
    assert half == Amounts(500, 45000, 5, 2500, 5000)
    assert least == LEAST
    small = Amounts(criticality=50, finetune=300, epochs=1, selection=100, test=0)
    assert small.scaled(0) == small
    before = asdict(least)
    for share in (0.01, 0.1, 0.35, 0.8, 1.0):
        now = asdict(most.scaled(share))
        assert all(now[name] >= before[name] for name in ("criticality", "selection", "test"))
        assert now["epochs"] * now["finetune"] >= before["epochs"] * before["finetune"]
        before = now
    assert most.scaled(1) == most


def test_durations_are_read_and_written() -> None:
    assert [config.seconds_of(text) for text in ("90s", "30m", "1.5h")] == [90, 1800, 5400]
    for wrong in ("30", "m", "0s", "-1m", "30 m", "1d"):
        with pytest.raises(ValueError, match="such as 90s, 30m or 2h"):
            config.seconds_of(wrong)
    assert [written(value) for value in (0.2, 59, 61, 3599, 5401)] == [
        *("1s", "59s", "2m", "1h 0m", "1h 31m")
    ]
    with pytest.raises(RiftError, match="budget: is '30'; it must be a number with its unit"):
        rift.improve(Counted(), ([], []), ([], []), budget="30")
