"""Transfer of a base to another data set, and the recipes of its authors by target."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from rift.config.names import DatasetName, MethodName, whole_dataset
from rift.config.regimes import Recipe
from rift.config.training import TrainingLoop
from rift.config.values import (
    AddedLater,
    Count,
    ImageCount,
    NotNegative,
    Number,
    Positive,
    Section,
    merge,
)
from rift.layout import Cell


class Transfer(TrainingLoop):
    """Transfer of a base to another data set; the defaults are those of Liu et al. 2023 (TWINS)."""

    epochs: Count = Field(60, description="Number of epochs: ≥ 1.")
    learning_rate: Positive = Field(
        3e-3, description="Initial learning rate of SGD, or the maximum for one-cycle: > 0."
    )
    milestones: tuple[Count, ...] = Field(
        (30, 50),
        description="Epochs after which the schedule step divides the learning rate by 10: ≥ 1.",
    )
    weight_decay: NotNegative = Field(2e-4, description="Weight decay (L2 penalty) of SGD: ≥ 0.")
    images: ImageCount = Field(
        "all", description="Number of training images of the target, from the first: ≥ 1, or all."
    )
    head_rate: Positive = Field(
        1.0,
        description="Learning rate of the new last layer, as a multiple of learning_rate: > 0.",
    )
    init_head: Literal["random", "linear-probe"] = Field(
        "random",
        description="Start of the new last layer. random: the default weights of its type;"
        " linear-probe: it alone is trained adversarially before all weights are.",
    )
    enlarge: Annotated[Annotated[int, Field(ge=8, le=1024)] | None, AddedLater()] = Field(
        None,
        description="Side in pixels to which the network enlarges the images of the target, by"
        " nearest neighbours: 8 to 1024. Attacks change the original pixels. null: as the base.",
    )
    probe_epochs: Count = Field(5, description="Number of epochs of the linear probe: ≥ 1.")
    probe_learning_rate: Positive = Field(
        0.01, description="Learning rate of the linear probe, which is constant: > 0."
    )


class Twins(Section):
    """TWINS (Liu et al. 2023)."""

    frozen_weight: NotNegative = Field(
        0.3,
        description="Weight λ of the frozen wing's loss; the adaptive wing's has the weight 1:"
        " ≥ 0.",
    )
    frozen_share: Number = Field(
        0.5,
        ge=0,
        lt=1,
        description="Share of every batch that goes through the frozen wing: in [0, 1). The rest,"
        " at least two images, goes through the adaptive wing.",
    )
    kl: Literal["formula", "published"] = Field(
        "formula",
        description="KL divergence of twins-trades. formula: its mean over the images of a wing;"
        " published: its sum divided by the whole batch, as in the authors' code, which gives a"
        " wing of half the batch half the beta.",
    )


# Sections that only some methods use; a method without any needs no entry.
SECTIONS_OF_METHODS: dict[MethodName, tuple[str, ...]] = {
    "trades": ("trades",),
    "twins-at": ("twins",),
    "twins-trades": ("twins", "trades"),
}

BASELINES_OF_METHODS: dict[str, MethodName] = {"twins-at": "at", "twins-trades": "trades"}
"""The same method without the frozen wing, by method of TWINS."""


def baseline_of(cell: Cell) -> Cell | None:
    """Return the cell of the same transfer without the frozen wing; None if it is not by TWINS."""
    method = BASELINES_OF_METHODS.get(cell.regime) if cell.kind == "transfers" else None
    return None if method is None else cell._replace(regime=method)


# The weight of the frozen wing and the weight decay are published for few targets. The defaults for
# all others are those of the authors' scripts.
TARGETS: dict[DatasetName, Recipe] = {
    "cifar10": Recipe(
        settings={"transfer": {"weight_decay": 1e-5}, "twins": {"frozen_weight": 1.0}}
    ),
    "caltech-256": Recipe(
        settings={"transfer": {"weight_decay": 1e-3}, "twins": {"frozen_weight": 0.4}}
    ),
}


def check_continuation(method: str, scope: str) -> None:
    """Check that the transfers of a method can be continued.

    Args:
        method: method of the transfer.
        scope: scope that continues it, for the message.

    Raises:
        ValueError: the method is one of TWINS.
    """
    if method in BASELINES_OF_METHODS:
        raise ValueError(
            f"{method} cannot be continued by the scope {scope}: the weights of a transfer contain"
            " the adaptive wing only, and TWINS needs the frozen wing, too; choose another scope,"
            f" or the method {BASELINES_OF_METHODS[method]}"
        )


def sections_of_other_methods(method: MethodName) -> list[str]:
    """Return the names of the sections that only other methods use, sorted."""
    every = {name for sections in SECTIONS_OF_METHODS.values() for name in sections}
    return sorted(every - set(SECTIONS_OF_METHODS.get(method, ())))


def fill_from_target(method: MethodName, target: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings with the authors' recipe for a target.

    Args:
        method: method of the transfer; sections that it does not use are left as they are.
        target: name of the target, or of a range of its classes.
        given: nested settings of a file or a command; they take precedence over the recipe.
    """
    recipe = TARGETS.get(whole_dataset(target), Recipe()).settings
    foreign = sections_of_other_methods(method)
    return merge({name: part for name, part in recipe.items() if name not in foreign}, given)
