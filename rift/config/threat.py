"""The threat model."""

from pydantic import (
    Field,
)

from rift.config.values import Count, Epsilon, Section


class Attack(Section):
    """Threat model (Linf) and the PGD attack used for training, selection and evaluation."""

    eps: Epsilon = Field(8 / 255, description="Radius of the Linf ball.")
    step: Epsilon = Field(2 / 255, description="Length of a PGD step.")
    steps: Count = Field(10, description="Number of PGD steps.")
