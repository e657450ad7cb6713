"""What the stages of an experiment left behind, by grid cell, variant and metric."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import ValidationError

from rift.artifacts import Array, read_csv, read_facts, read_json, read_origin, read_outcomes, read_provenance
from rift.config import Grid, Scope, Variant, describe
from rift.errors import RiftError

Metric = Literal["std", "ood", "pgd", "autoattack"]
METRICS: dict[Metric, str] = {"std": "Std", "ood": "OOD", "pgd": "Adv (PGD)", "autoattack": "Adv (AutoAttack)"}
_FILES: dict[Metric, str] = {"std": "standard", "ood": "ood", "pgd": "adversarial", "autoattack": "adversarial"}
_KEYS: dict[Metric, str] = {"std": "standard", "pgd": "pgd", "autoattack": "autoattack"}
# Settings without which outcomes are none of the same examples: what images went through before the network saw them.
_OF_EXAMPLES: dict[Metric, tuple[str, ...]] = {
    "std": ("examples",),
    "ood": ("examples", "evaluate.ood.corruptions", "evaluate.ood.severities"),
    "pgd": ("examples", "attack.eps", "attack.step", "attack.steps", "evaluate.pgd.restarts"),
    "autoattack": ("examples", "attack.eps", "evaluate.autoattack.attacks"),
}


class Cell(NamedTuple):
    """A data set, an architecture and a training regime: what is averaged over seeds."""

    dataset: str
    architecture: str
    regime: str


@dataclass(frozen=True)
class Outcomes:
    """Which images the seeds of a variant pass, as far as it was evaluated.

    Attributes:
        scores: seeds × images, in 0 … 1.
        files: where those of each seed stand.
        examples: settings that say what the images went through, as far as the files tell.
        settings: all that each seed was evaluated with.
    """

    scores: dict[int, Array] = field(default_factory=dict)
    files: dict[int, Path] = field(default_factory=dict)
    examples: dict[int, dict[str, Any]] = field(default_factory=dict)
    settings: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.scores)

    @property
    def array(self) -> Array:
        """Scores, seeds × images."""
        return np.stack(list(self.scores.values()))

    def add(self, seed: int, scores: Array, path: Path, settings: dict[str, Any], metric: Metric) -> None:
        """Take in what a file holds of a seed."""
        self.scores[seed], self.files[seed], self.settings[seed] = scores, path, settings
        self.examples[seed] = _told(settings, _OF_EXAMPLES[metric])

    def paired(self, other: "Outcomes") -> tuple[Array, Array]:
        """Scores of the seeds that both have, none perhaps: seeds × images of each.

        Raises:
            RiftError: they are of different examples.
        """
        shared = [seed for seed in self.seeds if seed in other.scores]
        for seed in shared:
            self._refuse_others(seed, other, seed)
        pick = [np.array([each.scores[seed] for seed in shared]) for each in (self, other)]
        return pick[0], pick[1]

    def of(self, seeds: Iterable[int]) -> "Outcomes":
        """Keep what is of some seeds."""
        kept = {seed: self.scores[seed] for seed in seeds}
        return Outcomes(kept, self.files, self.examples, self.settings)

    def check(self) -> "Outcomes":
        """Make sure that all seeds are of the same examples.

        Raises:
            RiftError: they are not.
        """
        for seed in self.seeds[1:]:
            self._refuse_others(self.seeds[0], self, seed)
        return self

    def _refuse_others(self, seed: int, other: "Outcomes", another: int) -> None:
        mine, theirs = self.examples[seed], other.examples[another]
        ours, count = len(self.scores[seed]), len(other.scores[another])
        differing = [
            f"{key} {theirs[key]} instead of {mine[key]}" for key in mine if key in theirs and mine[key] != theirs[key]
        ]
        if count != ours:
            differing.insert(0, f"holds {count} images instead of {ours}")
        if differing:
            raise RiftError(
                f"{other.files[another]}: cannot be compared with {self.files[seed]}, image by image: {', '.join(differing)};"
                " evaluate both alike"
            )


def cells(grid: Grid) -> Iterator[Cell]:
    for values in product(grid.datasets, grid.architectures, grid.regimes):
        yield Cell(*values)


def found(folder: Path) -> Grid:
    """Tell the grid of an experiment from what lies in its folder.

    Raises:
        RiftError: it holds no runs.
    """
    runs = sorted(path.parts[-4:] for path in folder.glob("runs/*/*/*/seed*") if path.is_dir())
    if not runs:
        raise RiftError(f"{folder}: holds no runs; is it the folder of an experiment (results/NAME)?")
    evaluated = {path.name for path in folder.glob("runs/*/*/*/seed*/evaluation/*") if path.is_dir()}
    datasets, architectures, regimes, seeds = zip(*runs, strict=True)
    try:
        return Grid.model_validate(
            {
                "datasets": tuple(dict.fromkeys(datasets)),
                "architectures": tuple(dict.fromkeys(architectures)),
                "regimes": tuple(dict.fromkeys(regimes)),
                "seeds": tuple(sorted({int(seed.removeprefix("seed")) for seed in seeds})),
                "scopes": tuple(sorted(evaluated - {"base"})) or ("rift",),
                "autoattack": (),
            }
        )
    except ValueError as error:
        what = describe(error, f"{folder}/runs") if isinstance(error, ValidationError) else f"{folder}/runs: {error}"
        raise RiftError(f"{what}\n  its folders must be runs: DATASET/ARCHITECTURE/REGIME/seedN") from error


def _told(settings: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Pick out nested settings by their dotted keys, those that are there."""
    told: dict[str, Any] = {}
    for key in keys:
        value: Any = settings
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            told[key] = value
    return told


@dataclass(frozen=True)
class Results:
    """The folder of an experiment, and the part of its grid that is asked about."""

    folder: Path
    grid: Grid

    def run(self, cell: Cell, seed: int) -> Path:
        return self.folder.joinpath("runs", *cell, f"seed{seed}")

    def outcomes(self, cell: Cell, variant: Variant, metric: Metric) -> Outcomes | None:
        """Which images each seed passes, of the seeds that were evaluated; None if none was.

        Raises:
            RiftError: an artifact is damaged, or the seeds were evaluated on different examples.
        """
        key = _KEYS.get(metric)
        found = Outcomes()
        for seed, path, settings, outcomes in self._evaluated(cell, variant, _FILES[metric]):
            if key is None or key in outcomes:
                trials = [outcomes[key][None]] if key else list(outcomes.values())
                found.add(seed, np.concatenate(trials).mean(axis=0), path, settings, metric)
        return found.check() if found.seeds else None

    def corrupted_outcomes(self, cell: Cell, variant: Variant) -> dict[tuple[str, int], Outcomes]:
        """Which images each seed passes after each corruption at each severity; empty if none was evaluated.

        Raises:
            RiftError: an artifact is damaged, or the seeds were evaluated on different examples.
        """
        found: dict[tuple[str, int], Outcomes] = {}
        for seed, path, settings, outcomes in self._evaluated(cell, variant, "ood"):
            told = _told(settings, ("evaluate.ood.severities",))
            for corruption, rows in outcomes.items():
                severities = told.get("evaluate.ood.severities", range(1, len(rows) + 1))
                for severity, row in zip(severities, rows, strict=True):
                    found.setdefault((corruption, severity), Outcomes()).add(
                        seed, row.astype(float), path, settings, "ood"
                    )
        return {name: outcomes.check() for name, outcomes in found.items()}

    def _evaluated(
        self, cell: Cell, variant: Variant, file: str
    ) -> Iterator[tuple[int, Path, dict[str, Any], dict[str, Array]]]:
        """Go through the outcomes of the seeds that have them."""
        for seed in self.having(cell, f"evaluation/{variant}/{file}.npz").grid.seeds:
            path = self.run(cell, seed) / "evaluation" / variant / f"{file}.npz"
            yield seed, path, read_origin(path)["settings"], read_outcomes(path)

    def having(self, cell: Cell, *files: str) -> "Results":
        """Ask only about the seeds that have some files, all of them; none perhaps.

        Args:
            cell: which runs.
            files: their paths below the folder of a run.
        """
        seeds = tuple(seed for seed in self.grid.seeds if all((self.run(cell, seed) / file).exists() for file in files))
        return replace(self, grid=self.grid.model_copy(update={"seeds": seeds}))

    def of(self, seed: int) -> "Results":
        """Ask only about one seed."""
        return replace(self, grid=self.grid.model_copy(update={"seeds": (seed,)}))

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
        """Modules that a scope has fine-tuned, by seed in the grid's order.

        Raises:
            RiftError: a file is missing or damaged, or of a version that did not write them down.
        """
        files = [self.run(cell, seed) / scope / "finetuned.safetensors" for seed in self.grid.seeds]
        facts = {file: read_facts(file) for file in files}
        for file in files:
            if "modules" not in facts[file]:
                raise RiftError(f"{file}: does not say which modules were fine-tuned; run rift finetune again")
        return [list(facts[file]["modules"]) for file in files]

    def finetune_settings(self, cell: Cell, scope: Scope) -> list[dict[str, Any]]:
        """Settings that a scope was fine-tuned with, by seed in the grid's order."""
        files = [self.run(cell, seed) / scope / "finetuned.safetensors" for seed in self.grid.seeds]
        return [read_facts(file)["provenance"]["settings"] for file in files]

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
