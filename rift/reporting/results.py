"""The artifacts of an experiment, by cell of its grid, variant and metric."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from pydantic import ValidationError

from rift import layout
from rift.artifacts import (
    Array,
    Provenance,
    read_csv,
    read_facts,
    read_json,
    read_origin,
    read_outcomes,
    read_provenance,
)
from rift.config import Grid, Scope, Variant, describe
from rift.config.sources import SOURCES
from rift.errors import RiftError
from rift.layout import Cell, Evaluation, Need, Run
from rift.reporting.lineage import check_inputs, check_summary
from rift.reporting.outcomes import Metric, Outcomes, pick

_EVALUATIONS: dict[Metric, Evaluation] = {
    "std": "standard",
    "ood": "ood",
    "pgd": "adversarial",
    "autoattack": "adversarial",
}
# Names of the arrays of outcomes; OOD is the mean of all arrays of its file.
_ARRAYS: dict[Metric, str] = {"std": "standard", "pgd": "pgd", "autoattack": "autoattack"}


def cells(grid: Grid) -> Iterator[Cell]:
    """Yield the cells of all runs of a grid, and then those of all transfers."""
    yield from grid.cells


def grid_of_folder(folder: Path) -> Grid:
    """Return the grid of an experiment, found from the folders of its runs.

    Raises:
        RiftError: there are no runs, or a folder is not the folder of a run.
    """
    folders = sorted(path for path in folder.glob(layout.RUN_FOLDERS) if path.is_dir())
    if not folders:
        raise RiftError(
            f"{folder}: contains no runs; give the folder of an experiment (results/NAME)"
        )
    runs = [Run.parse(path.relative_to(folder).as_posix()) for path in folders]
    # Nothing but the import was run for the sources of transfers without images.
    runs = [run for run in runs if run.cell.dataset not in SOURCES]
    evaluated = {
        path.name
        for run in folders
        for path in run.glob(layout.EVALUATION_FOLDERS)
        if path.is_dir()
    }
    names = {
        f"{field}s": tuple(dict.fromkeys(getattr(run.cell, field) for run in runs))
        for field in Cell._fields
    }
    try:
        return Grid.model_validate(
            {
                **names,
                "seeds": tuple(sorted({run.seed for run in runs})),
                "scopes": tuple(sorted(evaluated - {"base"})) or ("rift",),
                "autoattack": (),
            }
        )
    except ValidationError as error:
        raise RiftError(
            f"{describe(error, str(folder / 'runs'))}\n"
            "  its folders must be runs: DATASET/ARCHITECTURE/REGIME/seedN"
        ) from error


@dataclass(frozen=True)
class Results:
    """The artifacts of an experiment, restricted to a grid.

    Methods that return one entry per seed follow the order of ``grid.seeds``.

    Attributes:
        folder: folder of the experiment.
        grid: cells, seeds and variants to read.
        needs: kinds of results to read. Evaluations of other kinds count as missing, so that what
            is shown does not depend on whether they were run before.
    """

    folder: Path
    grid: Grid
    needs: tuple[Need, ...] = layout.DEFAULT_NEEDS

    def file(self, cell: Cell, seed: int, name: str) -> Path:
        """Return the path of an artifact of a run.

        Args:
            cell: cell of the run.
            seed: seed of the run.
            name: path of the artifact below the folder of the run.
        """
        return self.folder / Run(cell, seed).name / name

    def with_files(self, cell: Cell, *names: str) -> "Results":
        """Restrict to seeds for which all of ``names`` exist (possibly none).

        Args:
            cell: cell of the runs.
            names: paths below the folder of a run.
        """
        return replace(self, grid=self.grid.model_copy(update={"seeds": self._having(cell, names)}))

    def only_seed(self, seed: int) -> "Results":
        """Restrict to one seed."""
        return replace(self, grid=self.grid.model_copy(update={"seeds": (seed,)}))

    def outcomes(self, cell: Cell, variant: Variant, metric: Metric) -> Outcomes | None:
        """Return the outcomes of all seeds that were evaluated, or None if there are none.

        Raises:
            RiftError: an artifact is damaged, or the seeds were evaluated on different images.
        """
        name, found = _ARRAYS.get(metric), Outcomes()
        for seed, path, source, arrays in self._evaluated(cell, variant, _EVALUATIONS[metric]):
            if name is None or name in arrays:
                trials = [arrays[name][None]] if name else list(arrays.values())
                found.add(seed, np.concatenate(trials).mean(axis=0), path, source, metric)
        return found.checked() if found.seeds else None

    def corrupted_outcomes(self, cell: Cell, variant: Variant) -> dict[tuple[str, int], Outcomes]:
        """Return the outcomes of all seeds by corruption and severity; empty if there are none.

        Raises:
            RiftError: an artifact is damaged, or the seeds were evaluated on different images.
        """
        found: dict[tuple[str, int], Outcomes] = {}
        for seed, path, source, arrays in self._evaluated(cell, variant, "ood"):
            chosen = pick(source["settings"], ("evaluate.ood.severities",))
            for corruption, rows in arrays.items():
                severities = chosen.get("evaluate.ood.severities", range(1, len(rows) + 1))
                for severity, row in zip(severities, rows, strict=True):
                    outcomes = found.setdefault((corruption, severity), Outcomes())
                    outcomes.add(seed, row.astype(float), path, source, "ood")
        return {name: outcomes.checked() for name, outcomes in found.items()}

    def adversarial(self, cell: Cell, variant: Variant) -> dict[str, Any]:
        """Return the result of the adversarial evaluation of the first seed."""
        return read_json(self.file(cell, self.grid.seeds[0], layout.result(variant, "adversarial")))

    def ood(self, cell: Cell, variant: Variant) -> pd.DataFrame:
        """Return the accuracy by corruption, severity and seed."""
        columns = ("corruption", "severity", "accuracy", "source")
        return self._tables(cell, layout.result(variant, "ood"), columns)

    def criticality(self, cell: Cell) -> pd.DataFrame:
        """Return the criticality tables of all seeds, modules in the network's order.

        Tables of earlier versions have no column ``images`` and no race: all of their ranks are
        settled, and their ``images`` are missing.
        """
        columns = ("module", "kind", "parameters", "mrc", "rank", "tied")
        may_be_empty = ("mrc_error", "robust_accuracy_drop")
        for seed in self.grid.seeds:
            path = self.file(cell, seed, layout.CRITICALITY)
            check_inputs(path, read_provenance(path), {"base": self.file(cell, seed, layout.BASE)})
        table = self._tables(cell, layout.CRITICALITY, columns, may_be_empty)
        for column in ("images", "mrc_upper", "settled"):
            if column not in table:
                table[column] = float("nan")
        return table.assign(settled=[value is not False for value in table["settled"].tolist()])

    def sources(self) -> Iterator[tuple[Path, Provenance]]:
        """Yield the files of all runs that carry results, with their provenance.

        Raises:
            RiftError: a file is damaged.
        """
        evaluations = [name for name in get_args(Evaluation) if name in self.needs]
        for cell, seed in product(cells(self.grid), self.grid.seeds):
            for path in (
                self.file(cell, seed, layout.BASE),
                *(self.file(cell, seed, layout.finetuned(scope)) for scope in self.grid.scopes),
            ):
                if path.exists():
                    yield path, read_facts(path).get("provenance", {})
            path = self.file(cell, seed, layout.CRITICALITY)
            if path.exists():
                yield path, read_provenance(path)
            for variant, evaluation in product(self.grid.variants, evaluations):
                path = self.file(cell, seed, layout.outcomes(variant, evaluation))
                if path.exists():
                    yield path, read_origin(path)

    def criticality_settings(self, cell: Cell) -> dict[str, Any]:
        """Return the settings with which criticality was measured for the first seed."""
        source = read_provenance(self.file(cell, self.grid.seeds[0], layout.CRITICALITY))
        return dict(source["settings"])

    def with_fine_tuning(self, cell: Cell, scope: Scope) -> "Results":
        """Restrict to seeds for which it is known what a scope fine-tuned (possibly none)."""
        seeds = tuple(seed for seed in self.grid.seeds if self._fine_tuning(cell, seed, scope))
        return replace(self, grid=self.grid.model_copy(update={"seeds": seeds}))

    def fine_tuned_modules(self, cell: Cell, scope: Scope) -> list[list[str]]:
        """Return the modules that were fine-tuned, by seed.

        Raises:
            RiftError: a file is missing, is damaged, or does not list its modules.
        """
        found: list[list[str]] = []
        for seed in self.grid.seeds:
            facts = self._fine_tuning(cell, seed, scope)
            if "modules" not in facts:
                raise RiftError(
                    f"{self.file(cell, seed, layout.finetuned(scope))}: does not list the modules"
                    " that were fine-tuned; run rift finetune again"
                )
            found.append(list(facts["modules"]))
        return found

    def clean_gradients(self, cell: Cell, scope: Scope) -> list[float]:
        """Return the norm of the gradient of the clean loss in the scope, by seed.

        It is NaN for weights that an earlier version fine-tuned.
        """
        facts = (self._fine_tuning(cell, seed, scope) for seed in self.grid.seeds)
        return [float(known.get("clean_gradient", math.nan)) for known in facts]

    def finetune_settings(self, cell: Cell, scope: Scope) -> list[dict[str, Any]]:
        """Return the settings of fine-tuning, by seed."""
        files = self._files(cell, layout.finetuned(scope))
        return [read_facts(file)["provenance"]["settings"] for file in files]

    def base_sources(self, cell: Cell) -> list[Provenance]:
        """Return the provenance of the bases, by seed."""
        return [read_facts(file)["provenance"] for file in self._files(cell, layout.BASE)]

    def imports(self, cell: Cell) -> list[dict[str, Any]]:
        """Return the facts of the bases that were imported, by seed."""
        # The weights decide: the file of an earlier import may remain after a later training.
        files = self._files(cell, layout.IMPORTED)
        sources = self.base_sources(cell)
        return [
            read_json(file)
            for file, source in zip(files, sources, strict=True)
            if source.get("stage") == "import"
        ]

    def training(self, cell: Cell, *measured: str) -> pd.DataFrame:
        """Return the training histories of all seeds.

        Args:
            cell: cell of the runs.
            measured: columns that must exist in addition to those of every training.
        """
        accuracies = [
            f"{split}{kind}_accuracy"
            for split in ("", "train_")
            for kind in ("standard", "adversarial")
        ]
        columns = ("epoch", "learning_rate", *accuracies, "kept", *measured)
        return self._tables(cell, layout.TRAINING, columns)

    def sweep(self, cell: Cell, scope: Scope) -> pd.DataFrame:
        """Return the sweeps of all seeds, with the changes of both accuracies from the base.

        Columns: ``alpha``, ``seed``, ``standard_accuracy``, ``adversarial_accuracy``,
        ``standard_change`` and ``adversarial_change``. Of a sweep in two directions, the rows of
        the selected γ are returned.
        """
        columns = ("alpha", "standard_accuracy", "adversarial_accuracy")
        parts: list[pd.DataFrame] = []
        for seed in self.grid.seeds:
            rows = read_csv(self.file(cell, seed, layout.sweep(scope)), columns).assign(seed=seed)
            gamma = rows.get("gamma", pd.Series(0.0, rows.index))
            base = rows[(rows["alpha"] == 0) & (gamma == 0)].iloc[0]
            for kind in ("standard", "adversarial"):
                rows[f"{kind}_change"] = rows[f"{kind}_accuracy"] - base[f"{kind}_accuracy"]
            if "gamma" in rows:
                choice = read_json(self.file(cell, seed, layout.selection(scope)))
                rows = rows[gamma == choice["gamma"]].drop(columns="gamma")
            parts.append(rows)
        return pd.concat(parts, ignore_index=True)

    def selections(self, cell: Cell, scope: Scope) -> list[dict[str, Any]]:
        """Return the selected point of the sweep, by seed."""
        found: list[dict[str, Any]] = []
        for seed in self.grid.seeds:
            path = self.file(cell, seed, layout.selection(scope))
            found.append(read_json(path))
            names = {"base": layout.BASE, "finetuned": layout.finetuned(scope)}
            inputs = {name: self.file(cell, seed, file) for name, file in names.items()}
            check_inputs(path, found[-1].get("provenance", {}), inputs)
        return found

    def selected_points(self, cell: Cell, scope: Scope) -> list[dict[str, Any]]:
        """Return the selected points of the seeds that have one."""
        return self.with_files(cell, layout.selection(scope)).selections(cell, scope)

    def _having(self, cell: Cell, names: Iterable[str]) -> tuple[int, ...]:
        """Return the seeds for which all files exist."""
        required = tuple(names)
        return tuple(
            seed
            for seed in self.grid.seeds
            if all(self.file(cell, seed, name).exists() for name in required)
        )

    def _fine_tuning(self, cell: Cell, seed: int, scope: Scope) -> dict[str, Any]:
        """Return the facts of fine-tuning; empty if there are none.

        They are those of the table, which may be kept without the weights. Tables of earlier
        versions lack them, and the weights have them.
        """
        table = self.file(cell, seed, layout.finetuning(scope))
        weights = self.file(cell, seed, layout.finetuned(scope))
        facts = dict(read_provenance(table)) if table.exists() else {}
        if "modules" in facts:
            return facts
        return read_facts(weights) if weights.exists() else {}

    def _files(self, cell: Cell, name: str) -> list[Path]:
        return [self.file(cell, seed, name) for seed in self.grid.seeds]

    def _evaluated(
        self, cell: Cell, variant: Variant, evaluation: Evaluation
    ) -> Iterator[tuple[int, Path, Provenance, dict[str, Array]]]:
        """Yield seed, file, provenance and arrays of all outcomes that exist."""
        name = layout.outcomes(variant, evaluation)
        for seed in self._having(cell, (name,)) if evaluation in self.needs else ():
            path = self.file(cell, seed, name)
            source, arrays = read_origin(path), read_outcomes(path)
            weights = self.file(cell, seed, layout.weights(variant))
            check_inputs(path, source, {"weights": weights})
            summary = self.file(cell, seed, layout.result(variant, evaluation))
            check_summary(path, source, arrays, summary)
            yield seed, path, source, arrays

    def _tables(
        self, cell: Cell, name: str, columns: tuple[str, ...], may_lack: tuple[str, ...] = ()
    ) -> pd.DataFrame:
        tables = [
            read_csv(self.file(cell, seed, name), columns, may_lack).assign(seed=seed)
            for seed in self.grid.seeds
        ]
        return pd.concat(tables, ignore_index=True)
