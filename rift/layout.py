"""Names of runs, and paths of all artifacts of an experiment.

A run with a trained or imported base is named ``runs/DATASET/ARCHITECTURE/REGIME/seedN``. A run
that transfers a base to another data set is named
``transfers/SOURCE-to-TARGET/ARCHITECTURE/METHOD/seedN``. The name is also the path of the run's
folder, relative to the experiment folder ``results/NAME``. The workflow rules repeat these paths,
and a test compares them.

The functions from ``finetuned`` to ``outcomes`` and the constants ``BASE`` to ``CRITICALITY`` give
paths relative to the run folder. All other paths are relative to the experiment folder, unless a
docstring says otherwise.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from rift.errors import RiftError

TO = "-to-"
_RUN = re.compile(r"^(runs|transfers)/([^/]+)/([^/]+)/([^/]+)/seed(0|[1-9][0-9]*)$")

BASE = "base.safetensors"
TRAINING = "training.csv"
IMPORTED = "imported.json"
CRITICALITY = "criticality.csv"

# The experiment file that the results were made from, and the page with the main results.
CONFIGURATION = "experiment.yaml"
OVERVIEW = "overview.html"
LINEAGE = ".lineage.json"

# Glob patterns for the folders of all trained and imported runs, and for the evaluation folders of
# a run.
RUN_FOLDERS = "runs/*/*/*/seed*"
EVALUATION_FOLDERS = "evaluation/*"

Evaluation = Literal["standard", "ood", "adversarial"]

Need = Literal["training", "criticality", "sweep", "standard", "ood", "adversarial"]
# Kinds of results that each figure of a cell needs. A figure without an entry needs DEFAULT_NEEDS.
FIGURE_NEEDS: dict[str, tuple[Need, ...]] = {
    "interpolation": ("sweep",),
    # This figure marks the modules that were fine-tuned.
    "criticality": ("criticality", "sweep"),
    "corruptions": ("ood",),
    "pareto": ("standard", "adversarial"),
    "training": ("training",),
    "module-choice": ("criticality", "sweep"),
    "transfer-training": ("training",),
    "transfer-mechanism": ("training",),
    "transfer-pareto": ("standard", "adversarial"),
}
# Kinds of results that each table needs, likewise.
TABLE_NEEDS: dict[str, tuple[Need, ...]] = {
    # Both name the modules that were fine-tuned.
    "criticality": ("criticality", "sweep"),
    "module-choice": ("criticality", "sweep"),
}
# ``training`` is not included, because an imported base has no training history.
DEFAULT_NEEDS: tuple[Need, ...] = ("criticality", "sweep", "standard", "ood", "adversarial")

# Glob patterns for the benchmark files of each stage, relative to the benchmark folder of a run.
# Every shard writes its own file.
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "train": ("train.tsv",),
    "import": ("import.tsv",),
    "transfer": ("transfer.tsv",),
    "criticality": ("criticality.tsv", "criticality/*.tsv"),
    "finetune": ("{part}/finetune.tsv",),
    "interpolate": ("{part}/interpolate.tsv",),
    "evaluate standard": ("evaluation/{part}/standard.tsv",),
    "evaluate ood": ("evaluation/{part}/ood.tsv",),
    "evaluate adversarial": (
        "evaluation/{part}/adversarial*.tsv",
        "evaluation/{part}/adversarial/**/*.tsv",
    ),
}


class Cell(NamedTuple):
    """A combination of data set, architecture and regime; results are averaged over its seeds.

    Attributes:
        dataset: name of the data set, or ``SOURCE-to-TARGET`` for a transfer.
        architecture: name of the architecture.
        regime: name of the training regime, or of the method of a transfer.
    """

    dataset: str
    architecture: str
    regime: str

    @property
    def kind(self) -> Literal["runs", "transfers"]:
        """Return the first folder in the names of the cell's runs."""
        return "transfers" if TO in self.dataset else "runs"

    @property
    def target(self) -> str:
        """Return the data set that the runs are evaluated on."""
        return self.dataset.split(TO)[-1]

    @property
    def name(self) -> str:
        """Return the part of the name that all runs of the cell share."""
        return "/".join((self.kind, *self))


class Run(NamedTuple):
    """One seed of a cell."""

    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        """Return the run's name, which is also the folder of its artifacts."""
        return f"{self.cell.name}/seed{self.seed}"

    @classmethod
    def parse(cls, name: str) -> "Run":
        """Return the run with the given name.

        Raises:
            RiftError: the name is not a valid name of a run.
        """
        match = _RUN.match(name)
        if match is None:
            raise RiftError(
                f"{name}: is not the name of a run; use runs/DATASET/ARCHITECTURE/REGIME/seedN"
                " or transfers/SOURCE-to-TARGET/ARCHITECTURE/METHOD/seedN"
            )
        kind, *cell, seed = match.groups()
        run = cls(Cell(*cell), int(seed))
        if run.cell.kind != kind:
            raise RiftError(
                f"{name}: {kind} cannot contain {run.cell.dataset}; use transfers for data sets"
                f" with {TO} in their name, and runs for all others"
            )
        return run


def prepared(dataset: str) -> str:
    """Return the path of a prepared data set."""
    return f"data/{dataset}/prepared.safetensors"


def manifest(dataset: str) -> str:
    """Return the path of the manifest for a prepared data set."""
    return f"data/{dataset}/manifest.json"


def corrupted(dataset: str, corruption: str) -> str:
    """Return the path of the corrupted test images, next to a JSON file of the same name."""
    return f"data/{dataset}/corrupted/{corruption}.npy"


def finetuned(scope: str) -> str:
    """Return the path of the weights after fine-tuning a scope."""
    return f"{scope}/finetuned.safetensors"


def finetuning(scope: str) -> str:
    """Return the path of the fine-tuning history of a scope."""
    return f"{scope}/finetuning.csv"


def sweep(scope: str) -> str:
    """Return the path of the interpolation sweep from the base to the fine-tuned weights."""
    return f"{scope}/sweep.csv"


def selected(scope: str) -> str:
    """Return the path of the weights that were selected from the sweep."""
    return f"{scope}/selected.safetensors"


def selection(scope: str) -> str:
    """Return the path of the report on the selection from the sweep."""
    return f"{scope}/selection.json"


def weights(variant: str) -> str:
    """Return the path of a variant's weights: the base, or the weights selected for a scope."""
    return BASE if variant == "base" else selected(variant)


def result(variant: str, evaluation: Evaluation) -> str:
    """Return the path of the result of an evaluation."""
    return f"evaluation/{variant}/{evaluation}.{'csv' if evaluation == 'ood' else 'json'}"


def outcomes(variant: str, evaluation: Evaluation) -> str:
    """Return the path of the outcomes per image of an evaluation."""
    return f"evaluation/{variant}/{evaluation}.npz"


def table(name: str, suffix: str) -> str:
    """Return the path of a table."""
    return f"tables/{name}.{suffix}"


def figure(name: str, suffix: str, cell: Cell | None = None, dataset: str | None = None) -> str:
    """Return the path of a figure of a cell, or of a data set."""
    folder = "/".join(cell) if cell is not None else dataset
    return f"figures/{folder}/{name}.{suffix}"


def lineage(path: Path) -> Path:
    """Return the path of the lineage of a table, a figure or the overview: a file beside it."""
    return path.with_suffix(LINEAGE)


def figure_needs(name: str) -> tuple[Need, ...]:
    """Return the kinds of results that a figure of a cell needs."""
    return FIGURE_NEEDS.get(name, DEFAULT_NEEDS)


def table_needs(name: str) -> tuple[Need, ...]:
    """Return the kinds of results that a table needs."""
    return TABLE_NEEDS.get(name, DEFAULT_NEEDS)


def figure_files(
    name: str, scopes: Iterable[str] = (), variants: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the files that a figure of a cell needs; see ``needed_files``."""
    return needed_files(figure_needs(name), scopes, variants)


def needed_files(
    needs: Iterable[Need], scopes: Iterable[str] = (), variants: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the paths of the files of some kinds of results, relative to the run folder.

    Args:
        needs: kinds of results.
        scopes: scopes that are shown.
        variants: variants that are shown.
    """
    evaluated, swept = tuple(variants), tuple(scopes)
    files: dict[Need, tuple[str, ...]] = {
        "training": (TRAINING,),
        "criticality": (CRITICALITY,),
        "sweep": tuple(file(scope) for scope in swept for file in (sweep, selection)),
        "standard": tuple(outcomes(variant, "standard") for variant in evaluated),
        "ood": tuple(outcomes(variant, "ood") for variant in evaluated),
        "adversarial": tuple(outcomes(variant, "adversarial") for variant in evaluated),
    }
    return tuple(file for need in needs for file in files[need])


def benchmarks(run: Run, stage: str, part: str = "") -> tuple[str, ...]:
    """Return the glob patterns for the benchmark files of a stage of a run.

    Args:
        run: run that contains the stage.
        stage: key of ``BENCHMARKS``.
        part: scope or variant, for a stage that runs once per scope or variant.
    """
    return tuple(f"benchmarks/{run.name}/{file.format(part=part)}" for file in BENCHMARKS[stage])


def preparation_benchmark(dataset: str) -> str:
    """Return the path of the benchmark file for the preparation of a data set."""
    return f"benchmarks/data/{dataset}/prepare.tsv"


def corruption_benchmark(dataset: str, corruption: str) -> str:
    """Return the path of the benchmark file for one corruption of a data set."""
    return f"benchmarks/data/{dataset}/corrupted/{corruption}.tsv"


def log_of_benchmark(benchmark: Path) -> Path:
    """Return the log of the job that a benchmark file is of: both lie below equal folders.

    Args:
        benchmark: path with ``benchmarks`` in it, absolute or relative.
    """
    parts = list(benchmark.with_suffix(".log").parts)
    last = len(parts) - 1 - parts[::-1].index("benchmarks")
    parts[last] = "logs"
    return Path(*parts)


def workflow_folder() -> Path:
    """Return the folder of the workflow: within the installed package, or in the checkout."""
    return _shipped("workflow")


def examples_folder() -> Path:
    """Return the folder of the shipped experiment files."""
    return _shipped("config") if _in_checkout() else workflow_folder() / "config"


def _in_checkout() -> bool:
    return not (Path(__file__).parent / "workflow").is_dir()


def _shipped(name: str) -> Path:
    package = Path(__file__).parent
    return (package.parent if _in_checkout() else package) / name
