"""The threat model."""

from collections.abc import Mapping
from typing import Any

from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from rift.config.names import NormName
from rift.config.training import Inner
from rift.config.values import Count, Positive, Section

NORMS: dict[NormName, str] = {"linf": "Linf", "l2": "L2"}
"""Names of the norms as RobustBench and AutoAttack write them, for readers and for both."""

# Radius and step, by norm. Both steps are a quarter of the radius: ten of them can cross the ball.
_RADIUS: dict[NormName, float] = {"linf": 8 / 255, "l2": 0.5}
_STEP: dict[NormName, float] = {"linf": 2 / 255, "l2": 0.125}


class Attack(Section):
    """Threat model, and the PGD attack for training, selection and evaluation."""

    norm: NormName = Field(
        "linf",
        description="Norm of the ball around an image: linf (largest change of a pixel value), or"
        " l2 (Euclidean length of the change of the image).",
    )
    eps: Positive = Field(
        default_factory=lambda given: _RADIUS[given.get("norm", "linf")],
        description="Radius of the ball, in pixel values: > 0, and ≤ 1 for linf. Default: 8/255"
        " for linf, 0.5 for l2 (RobustBench's threat models of CIFAR-10).",
    )
    step: Positive = Field(
        default_factory=lambda given: _STEP[given.get("norm", "linf")],
        description="Length of a PGD step in the norm, in pixel values: > 0, and ≤ 1 for linf."
        " Default: 2/255 for linf, 0.125 for l2.",
    )
    steps: Count = Field(10, description="Number of PGD steps: ≥ 1.")

    @field_validator("eps", "step")
    @classmethod
    def _within_the_range_of_pixels(cls, value: float, info: ValidationInfo) -> float:
        return checked_length(value, info.data.get("norm", "linf"))

    # Results computed before there was a choice stay valid: their provenance, their flags in the
    # workflow and their states lack the norm. A dump of what was set (overrides) keeps it.
    @model_serializer(mode="wrap")
    def _omit_linf(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if not info.exclude_unset and values.get("norm") == "linf":
            del values["norm"]
        return values


def checked_length(value: float, norm: NormName) -> float:
    """Return a radius or the length of a step unchanged.

    Raises:
        ValueError: the norm is Linf, and the length exceeds the range of pixel values.
    """
    if norm == "linf" and value > 1:
        raise ValueError(
            f"is {value:g}, but pixel values are in [0, 1]; choose at most 1 for linf, such as"
            " 8/255, or set attack.norm to l2"
        )
    return value


def check_inner(inner: Inner, attack: Attack) -> None:
    """Check that the attack of training fits the threat model.

    Raises:
        ValueError: the method is not published for the norm, or a length exceeds the range of pixel
            values.
    """
    if attack.norm != "linf" and inner.method != "pgd":
        raise ValueError(
            f"inner.method: {inner.method} is published for linf alone, and attack.norm is"
            f" {attack.norm}; set inner.method to pgd (for a single step, inner.steps to 1)"
        )
    for key in ("eps", "step"):
        value = getattr(inner, key)
        if value is not None:
            try:
                checked_length(value, attack.norm)
            except ValueError as error:
                raise ValueError(f"inner.{key}: {error}") from None


def norm_of(attack: Mapping[str, Any]) -> NormName:
    """Return the norm of dumped settings of an attack, which omit Linf."""
    norm: NormName = attack.get("norm", "linf")
    return norm
