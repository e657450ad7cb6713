"""What the stages of an experiment left behind, by grid cell, variant and metric."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from rift.artifacts import Array, read_csv, read_facts, read_json, read_outcomes, read_provenance
from rift.config import Grid, Scope, Variant
from rift.errors import RiftError

Metric = Literal["std", "ood", "pgd", "autoattack"]
METRICS: dict[Metric, str] = {"std": "Std", "ood": "OOD", "pgd": "Adv (PGD)", "autoattack": "Adv (AutoAttack)"}


class Cell(NamedTuple):
    """A data set, an architecture and a training regime: what is averaged over seeds."""

    dataset: str
    architecture: str
    regime: str


def cells(grid: Grid) -> Iterator[Cell]:
    for values in product(grid.datasets, grid.architectures, grid.regimes):
        yield Cell(*values)


@dataclass(frozen=True)
class Results:
    """The folder of an experiment, and the part of its grid that is asked about."""

    folder: Path
    grid: Grid

    def run(self, cell: Cell, seed: int) -> Path:
        return self.folder.joinpath("runs", *cell, f"seed{seed}")

    def scores(self, cell: Cell, variant: Variant, metric: Metric) -> "Array | None":
        """Share of trials that each test image passed: seeds × images, in 0 … 1; None where AutoAttack was not run.

        On clean and on attacked images there is one trial, so a score is 0 or 1; OOD takes the mean over all corruptions
        and severities.

        Raises:
            RiftError: an artifact is missing or damaged, or the seeds were not evaluated on equally many images.
        """
        if metric == "autoattack" and variant not in self.grid.autoattack:
            return None
        file, key = {"std": ("standard", "standard"), "ood": ("ood", None)}.get(metric, ("adversarial", metric))
        rows: list[Array] = []
        for seed in self.grid.seeds:
            path = self.run(cell, seed) / "evaluation" / variant / f"{file}.npz"
            outcomes = read_outcomes(path)
            if key and key not in outcomes:
                raise RiftError(f"{path}: holds no {key}; run rift evaluate with it")
            trials = [outcomes[key][None]] if key else list(outcomes.values())
            rows.append(np.concatenate(trials).mean(axis=0))
            if len(rows[-1]) != len(rows[0]):
                raise RiftError(f"{path}: holds {len(rows[-1])} images, but that of another seed {len(rows[0])}")
        return np.stack(rows)

    def adversarial(self, cell: Cell, variant: Variant) -> dict[str, Any]:
        return read_json(self.run(cell, self.grid.seeds[0]) / "evaluation" / variant / "adversarial.json")

    def ood(self, cell: Cell, variant: Variant) -> pd.DataFrame:
        """Accuracy by corruption, severity and seed."""
        columns = ("corruption", "severity", "accuracy", "source")
        return self._by_seed(cell, f"evaluation/{variant}/ood.csv", columns)

    def criticality(self, cell: Cell) -> pd.DataFrame:
        """Criticality table of every seed, modules in the network's order."""
        columns = ("module", "kind", "parameters", "mrc", "rank", "tied")
        return self._by_seed(cell, "criticality.csv", columns, ("mrc_error", "robust_accuracy_drop"))

    def chosen(self, cell: Cell, scope: Scope) -> list[list[str]]:
        """Modules that a scope has fine-tuned, by seed in the grid's order."""
        files = [self.run(cell, seed) / scope / "finetuned.safetensors" for seed in self.grid.seeds]
        return [list(read_facts(file)["modules"]) for file in files]

    def criticality_settings(self, cell: Cell) -> dict[str, Any]:
        """Settings that the criticality of a cell was measured with."""
        settings: dict[str, Any] = read_provenance(self.run(cell, self.grid.seeds[0]) / "criticality.csv")["settings"]
        return settings

    def imports(self, cell: Cell) -> list[dict[str, Any]]:
        """What is known of the bases of a cell that were not trained here, by seed in the grid's order."""
        # The weights themselves say it: a file of an earlier import may still lie beside those of a later training.
        made = zip(self.grid.seeds, self.base_settings(cell), strict=True)
        return [
            read_json(self.run(cell, seed) / "imported.json")
            for seed, settings in made
            if settings["stage"] == "import"
        ]

    def base_settings(self, cell: Cell) -> list[dict[str, Any]]:
        """Settings of the stage that made the base, by seed in the grid's order: of its training or its import."""
        files = [self.run(cell, seed) / "base.safetensors" for seed in self.grid.seeds]
        return [read_facts(file)["provenance"]["settings"] for file in files]

    def training(self, cell: Cell) -> pd.DataFrame:
        """Training history of every seed; with columns of the averaged weights, where there were any."""
        accuracies = [f"{start}{kind}_accuracy" for start in ("", "train_") for kind in ("standard", "adversarial")]
        return self._by_seed(cell, "training.csv", ("epoch", "learning_rate", *accuracies, "kept"))

    def sweep(self, cell: Cell, scope: Scope) -> pd.DataFrame:
        columns = ("alpha", "standard_accuracy", "adversarial_accuracy")
        return self._by_seed(cell, f"{scope}/sweep.csv", columns)

    def selections(self, cell: Cell, scope: Scope) -> list[dict[str, Any]]:
        """What was chosen on the sweep, by seed in the grid's order."""
        return [read_json(self.run(cell, seed) / scope / "selection.json") for seed in self.grid.seeds]

    def _by_seed(self, cell: Cell, file: str, columns: tuple[str, ...], may_lack: tuple[str, ...] = ()) -> pd.DataFrame:
        tables = [
            read_csv(self.run(cell, seed) / file, columns, may_lack).assign(seed=seed) for seed in self.grid.seeds
        ]
        return pd.concat(tables, ignore_index=True)
