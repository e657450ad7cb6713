"""Content of an experiment: grid, imported bases and report."""

import re
import shlex
from itertools import product
from pathlib import Path
from typing import Annotated, get_args

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from rift.config.finetuning import CONTROLS_OF_SCOPES, sections_of_scope, start_of_scope
from rift.config.names import (
    DATASET_FIGURES,
    MODULE_SCOPE,
    NEEDS_BATCH_NORM,
    ROBUSTBENCH,
    TRANSFER_FIGURES,
    WITHOUT_BATCH_NORM,
    Architecture,
    Dataset,
    FigureName,
    MethodName,
    RegimeName,
    Scope,
    SourceName,
    TableName,
    TransferPair,
    Variant,
    class_range,
    whole_dataset,
)
from rift.config.normalization import FileNormalization
from rift.config.transfer import baseline_of, check_continuation
from rift.config.values import Names, Section, Seed, distinct, flag, home_expanded
from rift.layout import TO, Cell, Run

LEAST_MODULES = 3
"""Smallest number of modules that can show whether a statistic predicts what they gain."""


class Grid(Section):
    """Runs: all combinations of data set, architecture, regime and seed, each with all scopes.

    So are all combinations of transfer, architecture, method and seed.
    """

    datasets: Annotated[tuple[Dataset, ...], AfterValidator(distinct)] = Field(
        description="Data sets to run. digits-0-4 are the classes 0 to 4 of digits."
    )
    architectures: Names[Architecture] = Field(description="Architectures to run.")
    regimes: Names[RegimeName] = Field(("pgd",), description="Training regimes of the base.")
    seeds: Names[Seed] = Field((0, 1, 2), description="Seeds: ≥ 0. Each seed gives a separate run.")
    scopes: Names[Scope] = Field(("rift",), description="Scopes to fine-tune.")
    autoattack: Annotated[tuple[Variant, ...], AfterValidator(distinct)] = Field(
        default_factory=lambda given: ("base", *({"rift"} & set(given.get("scopes", ())))),
        description="Variants (base or a scope) to evaluate with AutoAttack in addition to PGD."
        " Default: base, and rift if it is one of the scopes.",
    )
    transfers: Annotated[tuple[TransferPair, ...], AfterValidator(distinct)] = Field(
        (),
        description="Transfers of bases to other data sets: SOURCE-to-TARGET. The source is one of"
        " datasets, or imagenet with an imported base.",
    )
    methods: Names[MethodName] = Field(
        get_args(MethodName), description="Methods of the transfers."
    )
    source_regime: RegimeName = Field(
        "pgd", description="Training regime of the transferred bases, one of regimes."
    )

    @model_validator(mode="after")
    def _has_runs(self) -> "Grid":
        if not self.datasets and not self.transfers:
            raise ValueError("datasets must not be empty; name at least one data set")
        return self

    @model_validator(mode="after")
    def _transfers_lead_to_other_classes(self) -> "Grid":
        for pair in self.transfers:
            source, target = pair.split(TO)
            if whole_dataset(source) == whole_dataset(target) and _overlap(source, target):
                raise ValueError(
                    f"transfers contains {pair}, but source and target share classes, so that the"
                    " base may have seen test images of the target; choose other classes"
                )
        return self

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

    @model_validator(mode="after")
    def _scopes_fit_transfers(self) -> "Grid":
        continuing = [scope for scope in self.scopes if "regime" in sections_of_scope(scope)]
        for scope, method in product(continuing, self.methods if self.transfers else ()):
            check_continuation(method, scope)
        return self

    @model_validator(mode="after")
    def _networks_have_the_batch_norm_that_is_used(self) -> "Grid":
        # The job would refuse it too, but after hours of training.
        without = [name for name in self.architectures if name in WITHOUT_BATCH_NORM]
        parts = {"scopes": self.scopes, "methods": self.methods if self.transfers else ()}
        for part, names in parts.items():
            needing = [name for name in names if name in NEEDS_BATCH_NORM]
            if without and needing:
                raise ValueError(
                    f"{part} contains {', '.join(needing)}, but {', '.join(without)} has no batch"
                    f" norm; remove it from {part}, or the architecture"
                )
        return self

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Return the base and all scopes."""
        return ("base", *self.scopes)

    @property
    def cells(self) -> list[Cell]:
        """Return the cells of all runs, and then those of all transfers."""
        parts = (self.datasets, self.regimes), (self.transfers, self.methods)
        return [
            Cell(*names)
            for datasets, regimes in parts
            for names in product(datasets, self.architectures, regimes)
        ]

    def shows(self, name: FigureName, cell: Cell) -> bool:
        """Return whether a figure of a cell can be drawn from this grid.

        The figures of transfers are those of a transfer by TWINS whose baseline is also in the
        grid. The figure of the choice of a module needs scopes of single modules.
        """
        if name in TRANSFER_FIGURES:
            return baseline_of(cell) in self.cells
        if name == "module-choice":
            alone = [scope for scope in self.scopes if re.match(MODULE_SCOPE, scope)]
            return len(alone) >= LEAST_MODULES
        return name not in DATASET_FIGURES

    @property
    def controls(self) -> list[tuple[Scope, Scope]]:
        """Return the scopes that the grid has together with a control of them, and this control."""
        return [
            (scope, control)
            for scope, controls in CONTROLS_OF_SCOPES.items()
            for control in controls
            if scope in self.scopes and control in self.scopes
        ]

    def lacking(self, name: TableName) -> str | None:
        """Return why a table would have no rows, and what to do; None if it has rows."""
        if name == "transfer" and not self.transfers:
            return "grid.transfers is empty; remove it there, or add a transfer"
        if name == "controls" and not self.controls:
            return (
                "grid.scopes has no scope together with its control; remove it there, or add both"
                " (such as mixed-training and more-training)"
            )
        return None

    def only(self, cell: Cell) -> "Grid":
        """Return the part of the grid that belongs to a cell."""
        names: dict[str, tuple[str, ...]] = {"architectures": (cell.architecture,)}
        if cell.kind == "transfers":
            names |= {"datasets": (), "transfers": (cell.dataset,), "methods": (cell.regime,)}
        else:
            names |= {"datasets": (cell.dataset,), "transfers": (), "regimes": (cell.regime,)}
        return self.model_copy(update=names)

    def only_dataset(self, dataset: str) -> "Grid":
        """Return the part of the grid that belongs to a data set."""
        return self.model_copy(update={"datasets": (dataset,), "transfers": ()})


def _overlap(source: str, target: str) -> bool:
    """Return whether two names of parts of one data set share classes."""
    one, other = class_range(source), class_range(target)
    return one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])


class ImportedBase(Section):
    """Source of the bases of some runs. Omitted keys match all runs."""

    dataset: Dataset | SourceName | None = Field(
        None,
        description="Data set of these runs. imagenet: a source of transfers; its images are not"
        " needed.",
    )
    architecture: Architecture | None = Field(None, description="Architecture of these runs.")
    regime: RegimeName | None = Field(None, description="Training regime of these runs.")
    seed: Seed | None = Field(None, description="Seed of these runs: ≥ 0.")
    weights: str = Field(
        min_length=1,
        description="Source of the weights: train, a file (.pth, .pt, .safetensors), or"
        " robustbench:NAME for a network of the RobustBench model zoo.",
    )
    normalization: FileNormalization = None
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
