"""Settings of interpolation and selection."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)

from rift.config.values import Count, ImageCount, NotNegative, Number, Precision, Section


def _alphas(values: tuple[float, ...]) -> tuple[float, ...]:
    if 0.0 not in values:
        raise ValueError(
            "must contain 0, the base itself: it is what every other point is compared with"
        )
    if list(values) != sorted(set(values)):
        raise ValueError("must rise strictly")
    return values


class Interpolate(Section):
    """Sweep from the base to the fine-tuned weights, and the choice of a point on it."""

    alphas: Annotated[
        tuple[Annotated[Number, Field(ge=0, le=1)], ...],
        Field(min_length=1),
        AfterValidator(_alphas),
    ] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        description="Points of the sweep: 0 is the base, 1 the fine-tuned weights.",
    )
    tolerance: NotNegative = Field(
        0.1, description="Adversarial accuracy that may be lost, in percentage points."
    )
    restarts: Count = Field(
        3, description="Random starts of PGD; an image counts if it withstands all."
    )
    precision: Precision = Field(
        "float32",
        description="Arithmetic of PGD; auto is bfloat16 on a GPU that has it, else float32.",
    )
    selection: Literal["validation", "test"] = Field(
        "validation",
        description="Split that decides; test repeats the paper's protocol, and tables say so.",
    )
    images: ImageCount = Field("all", description="How many of its images, counted from the first.")
