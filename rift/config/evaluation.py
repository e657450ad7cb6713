"""Settings of evaluation on test images."""

from typing import Annotated, Literal, get_args

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

    images: ImageCount = Field(
        "all", description="Number of test images, from the first: ≥ 1, or all."
    )


class Ood(Section):
    """Accuracy on corrupted test images."""

    corruptions: Corruptions = Field(
        "rift",
        description="Corruptions to average over: a list, or the name rift (18 corruptions) or"
        " robustbench (15 corruptions).",
    )
    severities: Annotated[tuple[Severity, ...], Field(min_length=1), AfterValidator(rising)] = (
        Field((1, 2, 3, 4, 5), description="Severities to average over: from 1 to 5, increasing.")
    )
    images: ImageCount = Field(
        "all",
        description="Number of test images per corruption and severity, from the first: ≥ 1, or"
        " all.",
    )

    @property
    def names(self) -> tuple[CorruptionName, ...]:
        """Return the names of the corruptions, also if ``corruptions`` is the name of a list."""
        return (
            CORRUPTION_LISTS[self.corruptions]
            if isinstance(self.corruptions, str)
            else self.corruptions
        )


class Pgd(Section):
    """Accuracy under the PGD attack of the section ``attack``."""

    images: ImageCount = Field(
        "all", description="Number of test images, from the first: ≥ 1, or all."
    )
    restarts: Count = Field(
        3,
        description="Number of random starts: ≥ 1. An image is correct if all attacks on it fail.",
    )
    batch_size: Count = Field(
        500,
        description="Number of images per batch: ≥ 1. The random starts, and so the result, depend"
        " on it.",
    )


class AutoAttack(Section):
    """Accuracy under AutoAttack (Croce and Hein 2020)."""

    images: ImageCount = Field(
        "all", description="Number of test images, from the first: ≥ 1, or all."
    )
    attacks: Annotated[Names[AutoAttackName], AfterValidator(_in_their_order)] = Field(
        get_args(AutoAttackName),
        description="Attacks to run. All four are the standard version of AutoAttack; fewer give"
        " an upper bound of its accuracy.",
    )
    batch_size: Count = Field(
        250,
        description="Number of images per batch: ≥ 1. The random numbers, and so the result, depend"
        " on it.",
    )

    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Precision in which attacks search. What they find counts if it is"
        " misclassified in float32.",
    )

    @property
    def version(self) -> str:
        """Return the version: ``standard`` or ``custom`` with the attacks, and bfloat16 if used."""
        whole = self.attacks == get_args(AutoAttackName)
        notes: list[str] = [] if whole else list(self.attacks)
        if self.precision != "float32":
            notes.append(f"searched in {self.precision}")
        return " ".join(
            [
                "standard" if whole else "custom",
                *([f"({', '.join(notes)})"] if notes else []),
            ]
        )


class Adversarial(Section):
    """Division of the evaluation under attack into jobs."""

    shards: Count = Field(
        1, description="Number of jobs that share the batches of test images: ≥ 1."
    )


class Evaluate(Section):
    """Evaluations on test images."""

    standard: Standard = Standard()
    ood: Ood = Ood()
    adversarial: Adversarial = Adversarial()
    pgd: Pgd = Pgd()
    autoattack: AutoAttack = AutoAttack()
