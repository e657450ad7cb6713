"""The threat model."""

from pydantic import (
    Field,
)

from rift.config.values import Count, Epsilon, Section


class Attack(Section):
    """Linf threat model, and the PGD attack for training, selection and evaluation."""

    eps: Epsilon = Field(
        8 / 255, description="Radius of the Linf ball, in pixel values: in (0, 1]."
    )
    step: Epsilon = Field(2 / 255, description="Length of a PGD step, in pixel values: in (0, 1].")
    steps: Count = Field(10, description="Number of PGD steps: ≥ 1.")
