"""Content of an experiment: grid, imported bases and report."""

import shlex
from pathlib import Path
from typing import Annotated, get_args

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from rift.config.finetuning import start_of_scope
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
from rift.config.normalization import DESCRIPTION, Normalization
from rift.config.values import Names, Section, Seed, distinct, flag, home_expanded
from rift.layout import Run


class Grid(Section):
    """Runs: all combinations of data set, architecture, regime and seed, each with all scopes."""

    datasets: Names[DatasetName] = Field(description="Data sets to run.")
    architectures: Names[Architecture] = Field(description="Architectures to run.")
    regimes: Names[RegimeName] = Field(("pgd",), description="Training regimes of the base.")
    seeds: Names[Seed] = Field((0, 1, 2), description="Seeds: ≥ 0. Each seed gives a separate run.")
    scopes: Names[Scope] = Field(("rift",), description="Scopes to fine-tune.")
    autoattack: Annotated[tuple[Variant, ...], AfterValidator(distinct)] = Field(
        ("base", "rift"),
        description="Variants (base or a scope) to evaluate with AutoAttack in addition to PGD.",
    )

    @model_validator(mode="after")
    def _autoattack_is_run_on_variants(self) -> "Grid":
        unknown = [variant for variant in self.autoattack if variant not in self.variants]
        if unknown:
            raise ValueError(
                f"autoattack contains {', '.join(unknown)}, but scopes does not; add it to scopes,"
                " or remove it from autoattack"
            )
        return self

    @model_validator(mode="after")
    def _scopes_have_what_they_start_from(self) -> "Grid":
        for scope in self.scopes:
            start = start_of_scope(scope)
            if start is not None and start not in self.scopes:
                raise ValueError(
                    f"scopes contains {scope}, which starts from the weights of {start}; add"
                    f" {start} to scopes"
                )
        return self

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Return the base and all scopes."""
        return ("base", *self.scopes)

    def only(self, **cell: str) -> "Grid":
        """Return the part of the grid that belongs to a cell.

        Args:
            cell: names by ``dataset``, ``architecture`` and ``regime``, or some of them.
        """
        return self.model_copy(update={f"{kind}s": (name,) for kind, name in cell.items()})


class ImportedBase(Section):
    """Source of the bases of some runs. Omitted keys match all runs."""

    dataset: DatasetName | None = Field(None, description="Data set of these runs.")
    architecture: Architecture | None = Field(None, description="Architecture of these runs.")
    regime: RegimeName | None = Field(None, description="Training regime of these runs.")
    seed: Seed | None = Field(None, description="Seed of these runs: ≥ 0.")
    weights: str = Field(
        min_length=1,
        description="Source of the weights: train, a file (.pth, .pt, .safetensors), or"
        " robustbench:NAME for a network of the RobustBench model zoo.",
    )
    normalization: Normalization | None = Field(
        None,
        description="Input normalisation of the network, if the file does not contain one."
        f" {DESCRIPTION}.",
    )
    key: str | None = Field(
        None, description="Key of the weights in the file, if it contains several sets."
    )

    @model_validator(mode="after")
    def _refuse_unused_keys(self) -> "ImportedBase":
        if self.weights == "train" and (self.normalization or self.key):
            raise ValueError(
                "normalization and key apply only to imported weights; remove them, or set weights"
                " to a file"
            )
        if self.weights.startswith(ROBUSTBENCH) and (self.normalization or self.key):
            raise ValueError(
                "RobustBench networks include their normalisation; remove normalization and key"
            )
        return self

    def applies_to(self, run: Run) -> bool:
        """Return whether a run has the data set, architecture, regime and seed of this entry."""
        values = {**run.cell._asdict(), "seed": run.seed}
        return all(getattr(self, key) in (None, value) for key, value in values.items())

    @property
    def files(self) -> list[str]:
        """Return the paths of the files that the import reads."""
        if self.weights.startswith(ROBUSTBENCH):
            return []
        expanded = self.weights.startswith("~")
        return [str(home_expanded(Path(self.weights))) if expanded else self.weights]

    @property
    def flags(self) -> str:
        """Return the flags of ``rift import`` for the weights, quoted for the shell."""
        weights = self.files[0] if self.files else self.weights
        given = {"weights": weights, "normalization": self.normalization, "key": self.key}
        return shlex.join(
            word for key, value in given.items() if value is not None for word in flag(key, value)
        )


class Report(Section):
    """Content of the report."""

    tables: Names[TableName] = Field(get_args(TableName), description="Tables to show.")
    figures: Names[FigureName] = Field(
        get_args(FigureName),
        description="Figures to draw, for each cell of the grid or each data set.",
    )
