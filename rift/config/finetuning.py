"""Settings of fine-tuning, and of the scopes that train in another way."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import (
    Field,
)

from rift.config.names import NamedScope, ScheduleName, Scope
from rift.config.values import (
    Count,
    ImageCount,
    LeastShare,
    NotNegative,
    Number,
    Part,
    Positive,
    Precision,
    Section,
)


class Finetune(Section):
    """Fine-tuning of one scope on clean images."""

    epochs: Count = Field(
        10, description="Number of epochs: ≥ 1. Halfway, the learning rate is divided by 10."
    )
    batch_size: Count = Field(128, description="Number of images per step: ≥ 1.")
    learning_rate: Positive = Field(1e-3, description="Initial learning rate of SGD: > 0.")
    momentum: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.9, description="Momentum of SGD: in [0, 1)."
    )
    weight_decay: NotNegative = Field(5e-4, description="Weight decay (L2 penalty) of SGD: ≥ 0.")
    batch_norm: Literal["train", "frozen"] = Field(
        "train",
        description="Running statistics of batch norm in the whole network. train: they are"
        " updated, as in the official code; frozen: they stay constant.",
    )
    precision: Precision = Field(
        "float32",
        description="Precision of fine-tuning; auto is bfloat16 on a GPU that supports it, else"
        " float32.",
    )
    images: ImageCount = Field(
        "all", description="Number of training images, from the first: ≥ 1, or all."
    )
    least_share: LeastShare = Field(
        0,
        description="Smallest share of the measured weights that a least critical module can have:"
        " in [0, 1). Smaller modules are excluded.",
    )
    part: Part = Field(
        (0, 1),
        description="Part of the network that contains the least critical modules, from the first"
        " module (0) to the last (1); [0.25, 0.75] is the middle half.",
    )


class Continuation(Section):
    """Continued training or transfer of the base (scope ``more-training``)."""

    epochs: Count | Literal["matched"] = Field(
        "matched",
        description="Number of epochs: ≥ 1. matched: finetune.epochs, divided by the passes of an"
        " image through the network per step of the regime (11 for PGD-10), rounded, and at least"
        " 1.",
    )
    learning_rate: Positive = Field(1e-3, description="Initial learning rate of SGD: > 0.")
    schedule: ScheduleName = Field(
        "step",
        description="Learning rate schedule. step: halfway, the learning rate is divided by 10.",
    )
    averaging: Annotated[Number, Field(ge=0, lt=1)] | None = Field(
        None,
        description="Decay per step of an exponential moving average of the weights: in [0, 1); 0"
        " turns it off. Default: train.averaging.",
    )
    images: ImageCount | None = Field(
        None,
        description="Number of training images, from the first: ≥ 1, or all. Default:"
        " finetune.images.",
    )


class Mixed(Continuation):
    """Continued training on attacked and clean images (scope ``mixed-training``)."""

    epochs: Count | Literal["matched"] = Field(
        5, description="Number of epochs: ≥ 1. matched: as for continuation."
    )
    learning_rate: Positive = Field(0.02, description="Initial learning rate of SGD: > 0.")
    schedule: ScheduleName = Field(
        "cosine",
        description="Learning rate schedule. step: halfway, the learning rate is divided by 10.",
    )
    averaging: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.999,
        description="Decay per step of an exponential moving average of the weights: in [0, 1); 0"
        " turns it off.",
    )
    images: ImageCount = Field(
        "all", description="Number of training images, from the first: ≥ 1, or all."
    )
    clean_share: Annotated[Number, Field(ge=0, le=1)] = Field(
        1 / 6,
        description="Share of the loss on clean images; the rest is the loss of the base's regime:"
        " in [0, 1].",
    )


# Sections beside finetune and augment that a scope reads. ``regime`` stands for the regime of the
# base, and for the sections that only this regime uses. For a transfer, it stands for the method,
# and ``train`` for ``transfer``.
SECTIONS_OF_SCOPES: dict[NamedScope, tuple[str, ...]] = {
    "statistics-attacked": ("attack",),
    "more-training": ("continuation", "train", "attack", "inner", "regime"),
    "mixed-training": ("mixed", "train", "attack", "inner", "regime"),
}


# Scopes that depend on the order of the modules by MRC: the number of least critical modules, or of
# most critical ones if it is negative.
RANKED_BY_SCOPES: dict[NamedScope, int] = {
    "rift": 1,
    "rift-frozen": 1,
    "rift-then-spend": 1,
    "top2": 2,
    "top3": 3,
    "top5": 5,
    "robust-critical": -1,
}


# Scopes that are fine-tuned from the weights of another scope, instead of the base.
STARTS_FROM: dict[NamedScope, NamedScope] = {
    "earn-then-spend": "more-training",
    "rift-then-spend": "rift",
}


# What a scope is compared with, beside the base: scopes without the part that it is about. For
# RiFT, these are the statistics of batch norm alone, and another module.
CONTROLS_OF_SCOPES: dict[NamedScope, tuple[NamedScope, ...]] = {
    "rift": ("statistics", "robust-critical"),
    "statistics": ("statistics-attacked",),
    "mixed-training": ("more-training",),
    "earn-then-spend": ("more-training",),
    "rift-then-spend": ("rift",),
}


def ranked_by(scopes: Sequence[Scope]) -> tuple[tuple[int, ...], int]:
    """Return the numbers of least critical modules and of most critical ones that scopes choose.

    Args:
        scopes: names of scopes.
    """
    numbers = {number for name, number in RANKED_BY_SCOPES.items() if name in scopes}
    least = tuple(sorted(number for number in numbers if number > 0))
    return least, max([0, *(-number for number in numbers)])


def start_of_scope(scope: Scope) -> NamedScope | None:
    """Return the scope whose weights the fine-tuning starts from; None if it is the base."""
    return next((start for name, start in STARTS_FROM.items() if name == scope), None)


def sections_of_scope(scope: Scope, *, transfer: bool = False) -> tuple[str, ...]:
    """Return the sections beside ``finetune`` and ``augment`` that a scope reads.

    Args:
        scope: name of the scope.
        transfer: whether the base is a transfer.
    """
    found = next((found for name, found in SECTIONS_OF_SCOPES.items() if name == scope), ())
    return tuple("transfer" if transfer and name == "train" else name for name in found)
