"""Training regimes: the settings that a regime has alone, and the recipe of its authors.

A regime that has neither needs no entry here.
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
    """What distinguishes a regime from the others.

    Attributes:
        sections: names of the settings sections that this regime uses besides the common ones.
        settings: its authors' values where they differ from the general defaults. They fill in
            whatever a file or a command leaves open.
    """

    sections: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


class Trades(Section):
    """TRADES (Zhang et al. 2019)."""

    beta: NotNegative = Field(
        6.0, description="Weight of the divergence between clean and adversarial predictions."
    )


TRADES_TRAIN = {"epochs": 76, "milestones": (75,), "weight_decay": 2e-4}
TRADES_INNER = {"start": "normal", "eps": 0.031, "step": 0.007, "steps": 10}


class Mart(Section):
    """MART (Wang et al. 2020)."""

    beta: NotNegative = Field(
        5.0, description="Weight of the divergence, which counts more where the model is unsure."
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
        6.0, description="Weight of the squared distance between clean and adversarial predictions."
    )


class Awp(Section):
    """Adversarial weight perturbation (Wu et al. 2020)."""

    gamma: Positive = Field(
        0.01, description="Size of the perturbation, relative to the norm of each weight."
    )
    warmup: Annotated[int, Field(ge=0)] = Field(
        0, description="Epochs before weights are perturbed."
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
    """Return the recipe of a regime; an empty one if the general defaults are its recipe."""
    return RECIPES.get(regime, Recipe())


def sections_of_other_regimes(regime: RegimeName) -> list[str]:
    """Return the names of the sections that belong to other regimes only, sorted."""
    every = {name for recipe in RECIPES.values() for name in recipe.sections}
    return sorted(every - set(recipe_of(regime).sections))


def fill_from_recipe(regime: RegimeName, given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings with the recipe of a regime.

    The inner attack of a recipe is meant for PGD under the usual threat model. Under another threat
    model, training uses ``attack`` instead; a single-step attack takes only its radius.

    Args:
        regime: whose recipe is used.
        given: nested settings as a file or a command gives them; they win over the recipe.
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

    Invalid values are reported elsewhere, so they count as equal.
    """
    try:
        return attack is not None and Attack.model_validate(attack) != Attack()
    except ValidationError:
        return False
