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


TRADES_TRAIN = {"epochs": 76, "milestones": (75,), "weight_decay": 2e-4}
TRADES_INNER = {"start": "normal", "eps": 0.031, "step": 0.007, "steps": 10}


class Mart(Section):
    """MART (Wang et al. 2020)."""

    beta: NotNegative = Field(
        5.0,
        description="Weight of the KL divergence, which counts more for uncertain clean"
        " predictions: ≥ 0.",
    )


MART_TRAIN = {
    "epochs": 120,
    "milestones": (75, 90, 100),
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


class Awp(Section):
    """Adversarial weight perturbation (Wu et al. 2020)."""

    gamma: Positive = Field(
        0.01, description="Norm of the perturbation, as a share of the norm of each weight: > 0."
    )
    warmup: Annotated[int, Field(ge=0)] = Field(
        0, description="Number of epochs before the first perturbation of weights: ≥ 0."
    )


RECIPES: dict[RegimeName, Recipe] = {
    "trades": Recipe(("trades",), {"train": TRADES_TRAIN, "inner": TRADES_INNER}),
    "mart": Recipe(("mart",), {"train": MART_TRAIN, "inner": TRADES_INNER}),
    "awp": Recipe(("awp",)),
    "trades-awp": Recipe(
        ("trades", "awp"),
        {"train": TRADES_TRAIN, "inner": TRADES_INNER, "awp": {"gamma": 0.005, "warmup": 10}},
    ),
    "score": Recipe(("score",), {"train": TRADES_TRAIN, "inner": TRADES_INNER}),
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
