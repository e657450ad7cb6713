"""Schema of an experiment file."""

import shlex
from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, cast

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from rift.config.finetuning import sections_of_scope, start_of_scope
from rift.config.grid import Grid, ImportedBase, Report
from rift.config.names import (
    DATASET_FIGURES,
    ROBUSTBENCH,
    TRANSFER_FIGURES,
    CorruptionName,
    FigureName,
    MethodName,
    ProtocolName,
    RegimeName,
    Scope,
    TableName,
    has_any_size,
    whole_dataset,
)
from rift.config.outside import code_file, is_outside
from rift.config.overrides import Overrides
from rift.config.protocols import PROTOCOLS
from rift.config.regimes import fill_from_recipe, recipe_of
from rift.config.settings import (
    RESULT_NEUTRAL,
    Settings,
)
from rift.config.sources import SOURCES
from rift.config.threat import check_inner
from rift.config.transfer import SECTIONS_OF_METHODS, baseline_of, fill_from_target
from rift.config.values import Section, flag, flag_text, merge
from rift.layout import TO, Cell, Run, figure_needs


class Experiment(Settings):
    """An experiment file."""

    experiment: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    ] = Field(description="Name of the experiment. All results are written to results/NAME.")
    grid: Grid
    protocol: ProtocolName | None = Field(
        None,
        description="Source of omitted settings. paper: they are those of the paper, with the"
        " published search on test data (Tiny-ImageNet: on training data), α selected on test data,"
        " and severity 1 for corruptions of Tiny-ImageNet; tables mark it.",
    )
    base: tuple[ImportedBase, ...] = Field(
        (), description="Imported bases. The first entry that matches a run applies."
    )
    report: Report = Report()
    overrides: Overrides = Overrides()

    @model_validator(mode="after")
    def _every_base_is_one_of_the_grid(self) -> "Experiment":
        for number, base in enumerate(self.base):
            if not any(base.applies_to(run) for run in (*self.untransferred, *self.outside)):
                raise ValueError(
                    f"base.{number} ({base.weights}) matches no run of the grid; correct its"
                    " dataset, architecture, regime or seed, or remove it"
                )
        return self

    @model_validator(mode="after")
    def _every_transfer_has_a_base(self) -> "Experiment":
        grid = self.grid
        named = [pair for pair in grid.transfers if pair.split(TO)[0] not in SOURCES]
        if named and grid.source_regime not in grid.regimes:
            raise ValueError(
                f"grid.source_regime: is {grid.source_regime}, which grid.regimes does not contain;"
                " add it there, or choose one of them"
            )
        missing = [run for run in self.outside if run not in self.imports]
        if missing:
            source, architecture = missing[0].cell.dataset, missing[0].cell.architecture
            raise ValueError(
                f"grid.transfers: the base of {source} cannot be trained here; add an entry to"
                f" base: {{dataset: {source}, architecture: {architecture}, weights: FILE}}"
            )
        for pair in named:
            source = pair.split(TO)[0]
            if source not in grid.datasets:
                raise ValueError(
                    f"grid.transfers: {pair} needs bases of {source}; add {source} to grid.datasets"
                )
        return self

    @model_validator(mode="after")
    def _tables_have_rows(self) -> "Experiment":
        explicit = "tables" in self.report.model_fields_set
        for name in self.report.tables if explicit else ():
            if lacking := self.grid.lacking(name):
                raise ValueError(f"report.tables: contains {name}, but {lacking}")
        return self

    @model_validator(mode="after")
    def _figures_of_transfers_have_a_baseline(self) -> "Experiment":
        asked = [name for name in self.report.figures if name in TRANSFER_FIGURES]
        explicit = "figures" in self.report.model_fields_set
        if explicit and asked and not any(baseline_of(cell) in self.cells for cell in self.cells):
            raise ValueError(
                f"report.figures: contains {', '.join(asked)}, but no transfer has both TWINS and"
                " its baseline; remove it there, or add both to grid.methods (twins-at and at, or"
                " twins-trades and trades)"
            )
        return self

    @model_validator(mode="after")
    def _attacks_fit(self) -> "Experiment":
        for cell in self.cells:
            try:
                settings = self.settings_of(cell)
            except ValidationError as error:
                first = error.errors()[0]
                path = ".".join(map(str, first["loc"]))
                raise ValueError(f"{path}: {first['msg']} ({cell.name})") from None
            if self.protocol is not None and settings.attack.norm != "linf":
                raise ValueError(
                    f"attack.norm: is {settings.attack.norm}, but protocol {self.protocol} is for"
                    " linf; remove protocol, or attack.norm"
                )
            check_inner(settings.inner, settings.attack)
        return self

    @model_validator(mode="after")
    def _sides_are_used(self) -> "Experiment":
        of_one_size = [name for name in self.datasets if not has_any_size(name)]
        if self.data.side is not None and len(of_one_size) == len(self.datasets):
            raise ValueError(
                f"data.side: the images of {', '.join(of_one_size)} have one size; remove the"
                " setting"
            )
        for name, settings in self.overrides.datasets.items():
            if settings.data.side is not None and not has_any_size(name):
                raise ValueError(
                    f"overrides.datasets.{name}.data.side: the images of this data set have one"
                    " size; remove the setting"
                )
        return self

    @model_validator(mode="after")
    def _counts_fit(self) -> "Experiment":
        for dataset, architecture in product(self.datasets, self.grid.architectures):
            settings = self.settings(dataset, architecture)
            corrupted, evaluated = settings.corrupt.images, settings.evaluate.ood.images
            if corrupted != "all" and evaluated != "all" and evaluated > corrupted:
                raise ValueError(
                    f"evaluate.ood.images: needs {evaluated} corrupted images of {dataset}, but"
                    f" corrupt.images is {corrupted}; set evaluate.ood.images to at most"
                    f" {corrupted}"
                )
            if settings.data.root != self.data.root:
                raise ValueError(
                    f"overrides.datasets.{dataset}.data.root: must not differ between data"
                    " sets; remove it, or set data.root for all"
                )
        return self

    @property
    def cells(self) -> list[Cell]:
        """Return the cells of all runs, and then those of all transfers."""
        return self.grid.cells

    @property
    def datasets(self) -> list[str]:
        """Return all data sets that runs are evaluated on, targets of transfers last."""
        return list(dict.fromkeys(cell.target for cell in self.cells))

    @property
    def runs(self) -> list[Run]:
        """Return all runs: every cell with every seed."""
        return [Run(cell, seed) for cell in self.cells for seed in self.grid.seeds]

    @property
    def untransferred(self) -> list[Run]:
        """Return the runs whose base is trained or imported."""
        return [run for run in self.runs if run.cell.kind == "runs"]

    @property
    def transferred(self) -> dict[Run, Run]:
        """Return the runs whose base is transferred, each with the run of the source's base."""
        regime = self.grid.source_regime
        return {
            run: Run(Cell(run.cell.dataset.split(TO)[0], run.cell.architecture, regime), run.seed)
            for run in self.runs
            if run.cell.kind == "transfers"
        }

    @property
    def outside(self) -> list[Run]:
        """Return the bases of transfers whose source has no images here; nothing else is run."""
        bases = self.transferred.values()
        return list(dict.fromkeys(run for run in bases if run.cell.dataset in SOURCES))

    @property
    def imports(self) -> dict[Run, ImportedBase]:
        """Return the entry of ``base`` for every run whose base is imported."""
        first = {
            run: next((entry for entry in self.base if entry.applies_to(run)), None)
            for run in (*self.untransferred, *self.outside)
        }
        return {run: base for run, base in first.items() if base and base.weights != "train"}

    @property
    def trained(self) -> list[Run]:
        """Return the runs whose base is trained."""
        imports = self.imports
        return [run for run in self.untransferred if run not in imports]

    def settings(
        self,
        dataset: str | None = None,
        architecture: str | None = None,
        regime: RegimeName | None = None,
        method: MethodName | None = None,
    ) -> Settings:
        """Return the settings of a data set, an architecture, and a regime or a method.

        The priority increases from the recipe of the regime or method to the protocol, the file,
        and its overrides by regime or method, data set and architecture. None selects no overrides
        of that kind, and for ``regime`` and ``method`` no recipe.
        """
        merged = self.model_dump(include=set(Settings.model_fields), exclude_unset=True)
        if self.protocol is not None:
            merged = merge(PROTOCOLS[self.protocol].settings_for(dataset), merged)
        by_name: tuple[tuple[Mapping[Any, Section], str | None], ...] = (
            (self.overrides.regimes, regime),
            (self.overrides.methods, method),
            (self.overrides.datasets, dataset and whole_dataset(dataset)),
            (self.overrides.datasets, dataset),
            (self.overrides.architectures, architecture),
        )
        for overrides, name in by_name:
            if name in overrides:
                merged = merge(merged, overrides[name].model_dump(exclude_unset=True))
        if regime is not None:
            merged = fill_from_recipe(regime, merged)
        if method is not None and dataset is not None:
            merged = fill_from_target(method, dataset, merged)
        if dataset is not None and not has_any_size(dataset):
            # The file's data.side is for its other data sets.
            merged = merge(merged, {"data": {"side": None}})
        return Settings.model_validate(merged).for_scopes(self.grid.scopes)

    def settings_of(self, run: Run | Cell | str) -> Settings:
        """Return the settings of a run, given as a run or its name, or of a cell."""
        cell = _cell_of(run)
        if cell.kind == "transfers":
            method = cast("MethodName", cell.regime)
            return self.settings(cell.target, cell.architecture, method=method)
        return self.settings(cell.target, cell.architecture, cast("RegimeName", cell.regime))

    def initial(self, run: str) -> list[str]:
        """Return the file with the initial weights of a training run, or an empty list."""
        init = self.settings_of(run).train.init
        return ImportedBase(weights=init).files if init else []

    @property
    def tables(self) -> tuple[TableName, ...]:
        """Return the tables of the report; those without rows are omitted."""
        return tuple(name for name in self.report.tables if not self.grid.lacking(name))

    @property
    def figures(self) -> dict[Cell, tuple[FigureName, ...]]:
        """Return the figures of every cell; with an imported base, none of training."""
        untrained = {run.cell for run in self.imports}
        return {
            cell: tuple(
                name
                for name in self.report.figures
                if self.grid.shows(name, cell)
                and ("training" not in figure_needs(name) or cell not in untrained)
            )
            for cell in self.cells
        }

    def shown_by(self, figure: str, cell: Cell) -> list[Cell]:
        """Return the cells whose results a figure of a cell shows."""
        baseline = baseline_of(cell) if figure in TRANSFER_FIGURES else None
        return [cell] if baseline is None else [baseline, cell]

    @property
    def dataset_figures(self) -> tuple[FigureName, ...]:
        """Return the figures that are drawn once per data set."""
        return tuple(name for name in self.report.figures if name in DATASET_FIGURES)

    def corruptions(self, dataset: str) -> tuple[CorruptionName, ...]:
        """Return all corruptions that any cell of a data set is evaluated on."""
        settings = (self.settings(dataset, name) for name in self.grid.architectures)
        return tuple(dict.fromkeys(name for each in settings for name in each.evaluate.ood.names))

    def flags(
        self, run: Run | Cell | str | None, *sections: str, dataset: str | None = None
    ) -> str:
        """Return sections as flags of a command, quoted for the shell.

        Settings that change no result are omitted: Snakemake re-runs a job when its flags change.

        Args:
            run: run or cell that determines the overrides and the part of ``grid``; None for the
                whole experiment or a data set.
            sections: dotted paths such as ``evaluate.pgd``, ``grid``, or ``regime`` for the
                sections that only the regime or method of the run uses.
            dataset: data set that determines the overrides and the part of ``grid`` if ``run`` is
                None.
        """
        if run is None:
            settings, own = self.settings(dataset), tuple[str, ...]()
            grid = self.grid if dataset is None else self.grid.only_dataset(dataset)
        else:
            cell = _cell_of(run)
            settings, grid = self.settings_of(cell), self.grid.only(cell)
            own = _sections_of(cell)
        paths = [path for named in sections for path in (own if named == "regime" else (named,))]
        tree = {path: grid if path == "grid" else settings.section(path) for path in paths}
        return shlex.join(
            word
            for path, section in tree.items()
            for key, value in section.model_dump(
                mode="json", exclude=set(RESULT_NEUTRAL), exclude_none=True
            ).items()
            for word in flag(f"{path}.{key}", flag_text(value))
        )

    def code(self, run: Run) -> list[str]:
        """Return the file of a run's architecture if it is from outside, or an empty list.

        Raises:
            RiftError: the working directory has no such file.
        """
        architecture = run.cell.architecture
        return [str(code_file(architecture))] if is_outside(architecture) else []

    def import_flags(self, run: Run) -> str:
        """Return the flags of ``rift import`` for an imported base, quoted for the shell."""
        base, norm = self.imports[run], self.settings_of(run).attack.norm
        from_zoo = base.weights.startswith(ROBUSTBENCH)
        return f"{base.flags} --norm {norm}" if from_zoo and norm != "linf" else base.flags

    def finetune_flags(self, run: Run | Cell | str, scope: Scope) -> str:
        """Return the settings of fine-tuning that a scope reads as flags, quoted for the shell.

        A change of other settings does not re-run the scope.
        """
        cell = _cell_of(run)
        transfer = cell.kind == "transfers"
        read = sections_of_scope(scope, transfer=transfer)
        flags = self.flags(cell, "finetune", "augment", *read)
        trained_by = "method" if transfer else "regime"
        return f"--{trained_by} {cell.regime} {flags}" if "regime" in read else flags

    def interpolate_flags(self, run: Run | Cell | str, scope: Scope) -> str:
        """Return the settings of interpolation that a scope reads as flags, for the shell."""
        spend = () if start_of_scope(scope) is None else ("spend",)
        return self.flags(run, "interpolate", "attack", *spend)


def _cell_of(run: Run | Cell | str) -> Cell:
    if isinstance(run, str):
        run = Run.parse(run)
    return run.cell if isinstance(run, Run) else run


def _sections_of(cell: Cell) -> tuple[str, ...]:
    """Return the sections that only the regime or the method of a cell uses."""
    if cell.kind == "transfers":
        return SECTIONS_OF_METHODS.get(cast("MethodName", cell.regime), ())
    return recipe_of(cast("RegimeName", cell.regime)).sections
