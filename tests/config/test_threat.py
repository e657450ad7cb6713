"""Threat models: norms, their defaults, and the refusal of combinations that mean nothing."""

import shlex
from typing import Any

import pytest

from rift import config
from rift.config import Attack
from rift.errors import RiftError
from rift.layout import Run

GRID = {"datasets": ["cifar10"], "architectures": ["resnet18"], "seeds": [0]}
RUN = "runs/cifar10/resnet18/{}/seed0"


def experiment(**sections: Any) -> config.Experiment:
    return config.parse({"experiment": "x", "grid": GRID, **sections}, "x.yaml")


def test_radius_and_step_follow_the_norm_unless_they_are_set() -> None:
    assert Attack() == Attack(norm="linf", eps=8 / 255, step=2 / 255, steps=10)
    assert Attack.model_validate({"norm": "l2"}) == Attack(norm="l2", eps=0.5, step=0.125)
    assert Attack.model_validate({"norm": "l2", "eps": "8/255"}).eps == pytest.approx(8 / 255)
    assert Attack.model_validate({"norm": "l2", "eps": 3}).eps == 3


def test_settings_of_linf_are_written_as_before_there_was_a_choice() -> None:
    assert Attack().model_dump() == {"eps": 8 / 255, "step": 2 / 255, "steps": 10}
    assert "norm" not in experiment().flags(RUN.format("pgd"), "attack")
    flags = shlex.split(experiment(attack={"norm": "l2"}).flags(RUN.format("pgd"), "attack"))
    assert flags[:4] == ["--attack.norm", "l2", "--attack.eps", "0.5"]


def test_an_override_can_return_to_linf() -> None:
    both = experiment(
        attack={"norm": "l2"},
        overrides={"architectures": {"resnet18": {"attack": {"norm": "linf"}}}},
    )
    assert both.settings_of(RUN.format("pgd")).attack == Attack()


def test_a_recipe_for_linf_does_not_give_its_radius_to_l2() -> None:
    grid = {**GRID, "regimes": ["trades"]}
    inner = experiment(grid=grid, attack={"norm": "l2"}).settings_of(RUN.format("trades")).inner
    assert (inner.start, inner.eps, inner.step) == ("normal", None, None)


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (
            {"attack": {"eps": 2}},
            r"attack\.eps: is 2, .* at most 1 for linf, .* attack\.norm to l2",
        ),
        ({"inner": {"step": 1.5}}, r"inner\.step: is 1\.5, .* at most 1 for linf"),
        (
            {"attack": {"norm": "l2"}, "inner": {"method": "n-fgsm"}},
            r"inner\.method: n-fgsm is published for linf alone, .* set inner\.method to pgd",
        ),
        (
            {"attack": {"norm": "l2"}, "protocol": "paper"},
            r"attack\.norm: is l2, but protocol paper is for linf; remove protocol, or",
        ),
        (
            {
                "attack": {"norm": "l2", "eps": 2},
                "overrides": {"datasets": {"cifar10": {"attack": {"norm": "linf"}}}},
            },
            r"attack\.eps: .*at most 1 for linf.*runs/cifar10",
        ),
        ({"attack": {"norm": "l1"}}, r"attack\.norm: 'l1' is not available; available: 'linf' or"),
    ],
)
def test_threat_models_without_a_meaning_are_refused(
    sections: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RiftError, match=problem) as caught:
        experiment(**sections)
    assert "factory" not in str(caught.value)


def test_the_norm_selects_the_list_of_the_zoo() -> None:
    def flags(weights: str, **sections: Any) -> str:
        return experiment(base=[{"weights": weights}], **sections).import_flags(
            Run.parse(RUN.format("pgd"))
        )

    l2 = {"attack": {"norm": "l2"}}
    assert flags("robustbench:Engstrom2019Robustness") == (
        "--weights robustbench:Engstrom2019Robustness"
    )
    assert flags("robustbench:Engstrom2019Robustness", **l2).endswith("Robustness --norm l2")
    assert flags("mine.pth", **l2) == "--weights mine.pth"
