"""Settings of interpolation and selection."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)

from rift.config.values import Count, ImageCount, NotNegative, Number, Precision, Section


def _positions(values: tuple[float, ...]) -> tuple[float, ...]:
    if 0.0 not in values:
        raise ValueError(
            "must contain 0: this is the base, which all other points are compared with"
        )
    if list(values) != sorted(set(values)):
        raise ValueError("must be strictly increasing")
    return values


Positions = Annotated[
    tuple[Annotated[Number, Field(ge=0, le=1)], ...],
    Field(min_length=1),
    AfterValidator(_positions),
]


class Interpolate(Section):
    """Interpolation from the base to the fine-tuned weights, and the selection of α."""

    alphas: Positions = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        description="Increasing values of α in [0, 1]: 0 is the base, 1 the fine-tuned weights.",
    )
    tolerance: NotNegative = Field(
        0.1, description="Largest accepted loss of adversarial accuracy, in percentage points: ≥ 0."
    )
    confidence: Annotated[Number, Field(ge=0.5, lt=1)] | None = Field(
        None,
        description="Confidence that the loss is within the tolerance: in [0.5, 1). It holds for"
        " all points of a sweep together. Default: none; the loss on the images of the sweep"
        " decides, as in the paper.",
    )
    restarts: Count = Field(
        3,
        description="Number of random starts of PGD: ≥ 1. An image is correct if all attacks on it"
        " fail.",
    )
    precision: Precision = Field(
        "float32",
        description="Precision of PGD; auto is bfloat16 on a GPU that supports it, else float32.",
    )
    selection: Literal["validation", "test"] = Field(
        "validation",
        description="Split for the selection of α. test follows the protocol of the paper; tables"
        " mark it.",
    )
    images: ImageCount = Field(
        "all", description="Number of images of this split, from the first: ≥ 1, or all."
    )


class Spend(Section):
    """Second direction of the sweep of a scope that starts from the weights of another one."""

    gammas: Positions = Field(
        (0.0, 0.5, 1.0),
        description="Increasing values of γ in [0, 1]: 0 is the base, 1 the weights that the"
        " fine-tuning started from. Every α is measured at every γ.",
    )
