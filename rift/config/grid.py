"""What an experiment runs: the grid, imported bases, the report."""

import shlex
from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from rift.config.names import (
    ROBUSTBENCH,
    Architecture,
    DatasetName,
    FigureName,
    RegimeName,
    Scope,
    TableName,
    Variant,
)
from rift.config.values import Names, Section, Seed, distinct
from rift.layout import Run


class Grid(Section):
    """What is run: every combination of data set, architecture, regime and seed, each with every scope."""

    datasets: Names[DatasetName] = Field(description="Data sets.")
    architectures: Names[Architecture] = Field(description="Architectures.")
    regimes: Names[RegimeName] = Field(("pgd",), description="Training regimes of the base.")
    seeds: Names[Seed] = Field((0, 1, 2), description="Seeds; each is a run of its own.")
    scopes: Names[Scope] = Field(("rift",), description="What is fine-tuned.")
    autoattack: Annotated[tuple[Variant, ...], AfterValidator(distinct)] = Field(
        ("base", "rift"),
        description="Variants (base or a scope) that AutoAttack is run on, besides PGD.",
    )

    @model_validator(mode="after")
    def _autoattack_is_run_on_variants(self) -> "Grid":
        sections_of_other_regimes = [
            variant for variant in self.autoattack if variant not in self.variants
        ]
        if sections_of_other_regimes:
            raise ValueError(
                f"autoattack names {', '.join(sections_of_other_regimes)}, which is not among the scopes"
            )
        return self

    @property
    def variants(self) -> tuple[Variant, ...]:
        return ("base", *self.scopes)

    def only(self, **cell: str) -> "Grid":
        """Leave of the grid what belongs to a cell: ``dataset``, ``architecture``, ``regime``, or some of them."""
        return self.model_copy(update={f"{kind}s": (name,) for kind, name in cell.items()})


class ImportedBase(Section):
    """Where the bases of some runs come from; a key that is not given stands for every value."""

    dataset: DatasetName | None = Field(None, description="Data set of these runs.")
    architecture: Architecture | None = Field(None, description="Architecture of these runs.")
    regime: RegimeName | None = Field(None, description="Training regime of these runs.")
    seed: Seed | None = Field(None, description="Seed of these runs.")
    weights: str = Field(
        min_length=1,
        description="train, or a file (.pth, .pt, .safetensors), or robustbench:NAME of its model zoo.",
    )
    normalization: Literal["dataset", "none"] | None = Field(
        None,
        description="What images go through before the network, where the file does not hold it: dataset (its mean and"
        " standard deviation) or none (it wants [0, 1]).",
    )
    key: str | None = Field(
        None, description="What the weights stand under in the file, if it holds several."
    )

    @model_validator(mode="after")
    def _says_nothing_in_vain(self) -> "ImportedBase":
        if self.weights == "train" and (self.normalization or self.key):
            raise ValueError("normalization and key are for imported weights, not for train")
        if self.weights.startswith(ROBUSTBENCH) and (self.normalization or self.key):
            raise ValueError(
                "RobustBench's networks bring their normalisation: leave normalization and key away"
            )
        return self

    def applies_to(self, run: Run) -> bool:
        """Return whether a run has the data set, architecture, regime and seed that are given here."""
        values = {**run.cell._asdict(), "seed": run.seed}
        return all(getattr(self, key) in (None, value) for key, value in values.items())

    @property
    def files(self) -> list[str]:
        """What must be there before the import."""
        return [] if self.weights.startswith(ROBUSTBENCH) else [self.weights]

    @property
    def flags(self) -> str:
        """What ``rift import`` is told of the weights, quoted for the shell."""
        said = {"weights": self.weights, "normalization": self.normalization, "key": self.key}
        return " ".join(
            f"--{key} {shlex.quote(value)}" for key, value in said.items() if value is not None
        )


class Report(Section):
    """What the report shows."""

    tables: Names[TableName] = Field(get_args(TableName), description="Tables.")
    figures: Names[FigureName] = Field(
        get_args(FigureName), description="Figures, one of each per grid cell or data set."
    )
