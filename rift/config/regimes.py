"""Sections that only some training regimes use, and the recipes of the regimes' authors.

A regime with neither needs no entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, ValidationError

from rift.config.names import RegimeName
from rift.config.threat import Attack
from rift.config.values import NotNegative, Positive, Section, merge


@dataclass(frozen=True)
class Recipe:
    """Sections and recommended values of a regime.

    Attributes:
        sections: names of the sections that not all regimes use, but this one does.
        settings: values of the authors that differ from the general defaults. They apply to all
            settings that neither a file nor a command gives.
    """

    sections: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


class Trades(Section):
    """TRADES (Zhang et al. 2019)."""

    beta: NotNegative = Field(
        6.0,
        description="Weight of the KL divergence between clean and adversarial predictions: ≥ 0.",
    )


# The authors count epochs from 1 and lower the rate before epoch 75.
TRADES_TRAIN = {"epochs": 76, "milestones": (74,), "weight_decay": 2e-4}
TRADES_INNER = {"start": "normal", "eps": 0.031, "step": 0.007, "steps": 10}


class Mart(Section):
    """MART (Wang et al. 2020)."""

    beta: NotNegative = Field(
        5.0,
        description="Weight of the KL divergence, which counts more for uncertain clean"
        " predictions: ≥ 0.",
    )


# The authors lower the rate before epochs 75, 90 and 100.
MART_TRAIN = {
    "epochs": 120,
    "milestones": (74, 89, 99),
    "learning_rate": 0.01,
    "weight_decay": 3.5e-3,
}


class Score(Section):
    """SCORE (Pang et al. 2022)."""

    beta: NotNegative = Field(
        6.0,
        description="Weight of the squared distance between clean and adversarial predictions:"
        " ≥ 0.",
    )
    clip: NotNegative = Field(
        0.3,
        description="Loss of an image below which the image does not count; the rest of each loss"
        " counts: ≥ 0.",
    )


# Without extra data (Pang et al. 2022). The attack starts like that of TRADES.
SCORE_TRAIN = {"learning_rate": 0.05}
SCORE_INNER = {"start": "normal"}


class Awp(Section):
    """Adversarial weight perturbation (Wu et al. 2020)."""

    gamma: Positive = Field(
        0.01, description="Norm of the perturbation, as a share of the norm of each weight: > 0."
    )
    warmup: Annotated[int, Field(ge=0)] = Field(
        0, description="Number of epochs before the first perturbation of weights: ≥ 0."
    )


AWP_TRAIN = {"epochs": 200, "milestones": (100, 150)}

RECIPES: dict[RegimeName, Recipe] = {
    "trades": Recipe(("trades",), {"train": TRADES_TRAIN, "inner": TRADES_INNER}),
    "mart": Recipe(("mart",), {"train": MART_TRAIN, "inner": TRADES_INNER}),
    "awp": Recipe(("awp",), {"train": AWP_TRAIN}),
    "trades-awp": Recipe(
        ("trades", "awp"),
        # The authors count epochs from 1 and perturb from epoch 10 on.
        {"train": AWP_TRAIN, "inner": {"start": "normal"}, "awp": {"gamma": 0.005, "warmup": 9}},
    ),
    "score": Recipe(("score",), {"train": SCORE_TRAIN, "inner": SCORE_INNER}),
}


def recipe_of(regime: RegimeName) -> Recipe:
    """Return the recipe of a regime; it is empty if the regime uses the general defaults."""
    return RECIPES.get(regime, Recipe())


def sections_of_other_regimes(regime: RegimeName) -> list[str]:
    """Return the names of the sections that only other regimes use, sorted."""
    every = {name for recipe in RECIPES.values() for name in recipe.sections}
    return sorted(every - set(recipe_of(regime).sections))


def fill_from_recipe(regime: RegimeName, given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings with the recipe of a regime.

    The inner attack of a recipe belongs to PGD under the default threat model. Under another threat
    model, only its random start applies. For a single-step attack, only its radius applies.

    Args:
        regime: regime that gives the recipe.
        given: nested settings of a file or a command; they take precedence over the recipe.
    """
    recipe = dict(recipe_of(regime).settings)
    inner, attack = given.get("inner"), given.get("attack")
    if "inner" in recipe and _differs_from_default(attack):
        recipe["inner"] = {"start": recipe["inner"]["start"]}
    if "inner" in recipe and isinstance(inner, Mapping) and inner.get("method", "pgd") != "pgd":
        recipe["inner"] = {key: value for key, value in recipe["inner"].items() if key == "eps"}
    return merge(recipe, given)


def _differs_from_default(attack: object) -> bool:
    """Return whether ``attack`` differs from the default.

    Invalid values count as equal, because the validation of the settings reports them.
    """
    try:
        return attack is not None and Attack.model_validate(attack) != Attack()
    except ValidationError:
        return False
