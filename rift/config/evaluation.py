"""Settings of evaluation on test images."""

from typing import Annotated, get_args

from pydantic import (
    AfterValidator,
    Field,
)

from rift.config.names import CORRUPTION_LISTS, AutoAttackName, CorruptionName
from rift.config.values import Corruptions, Count, ImageCount, Names, Section, Severity, rising


def _in_their_order(names: tuple["AutoAttackName", ...]) -> tuple["AutoAttackName", ...]:
    return tuple(name for name in get_args(AutoAttackName) if name in names)


class Standard(Section):
    """Accuracy on clean test images."""

    images: ImageCount = Field("all", description="How many test images, counted from the first.")


class Ood(Section):
    """Accuracy on corrupted test images."""

    corruptions: Corruptions = Field(
        "rift",
        description="Corruptions that are averaged: a list, or rift (18) or robustbench (15).",
    )
    severities: Annotated[tuple[Severity, ...], Field(min_length=1), AfterValidator(rising)] = (
        Field((1, 2, 3, 4, 5), description="Severities that are averaged, of 1 to 5.")
    )
    images: ImageCount = Field(
        "all", description="How many test images of each, counted from the first."
    )

    @property
    def names(self) -> tuple[CorruptionName, ...]:
        """The corruptions, whichever way they were given."""
        return (
            CORRUPTION_LISTS[self.corruptions]
            if isinstance(self.corruptions, str)
            else self.corruptions
        )


class Pgd(Section):
    """PGD evaluation with the attack of the threat model."""

    images: ImageCount = Field("all", description="How many test images, counted from the first.")
    restarts: Count = Field(3, description="Random starts; an image counts if it withstands all.")
    batch_size: Count = Field(
        500,
        description="Images attacked at once, from random starts of their own: another number means other ones.",
    )


class AutoAttack(Section):
    """AutoAttack (Croce and Hein 2020)."""

    images: ImageCount = Field("all", description="How many test images, counted from the first.")
    attacks: Annotated[Names[AutoAttackName], AfterValidator(_in_their_order)] = Field(
        get_args(AutoAttackName),
        description="Attacks; all four are AutoAttack's standard version, fewer an upper bound of its accuracy.",
    )
    batch_size: Count = Field(
        250,
        description="Images attacked at once, with random numbers of their own: another number means other ones.",
    )

    @property
    def version(self) -> str:
        """What this is called: standard, or custom with the names of its attacks."""
        return (
            "standard"
            if self.attacks == get_args(AutoAttackName)
            else f"custom ({', '.join(self.attacks)})"
        )


class Adversarial(Section):
    """How the evaluation under attack is divided."""

    shards: Count = Field(1, description="Jobs that share the test images, whole batches of them.")


class Evaluate(Section):
    """What is measured on test images."""

    standard: Standard = Standard()
    ood: Ood = Ood()
    adversarial: Adversarial = Adversarial()
    pgd: Pgd = Pgd()
    autoattack: AutoAttack = AutoAttack()
