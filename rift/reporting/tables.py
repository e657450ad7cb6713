"""Tables by name. Add yours to ``TABLES`` and its name to ``rift.config.TableName``."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from rift.artifacts import Array
from rift.config import RECIPES, Grid, MethodName, RegimeName, Scope, TableName, Variant
from rift.reporting import published
from rift.reporting.results import METRICS, Cell, Results, cells
from rift.reporting.statistics import Delta, accuracy, paired_delta

NOT_RUN = "–"
AVERAGE = "average"
BASE: Variant = "base"
DELTA = "Δ"
PAPER = "paper"

SEARCHES: dict[MethodName, str] = {
    "pga": "search by projected gradient ascent",
    "published": "the published search",
    "gradient": "estimate to first order",
}

_BEFORE_AND_AFTER = (
    "Accuracy (%) of adversarially trained bases (AT) before and after robust critical fine-tuning (RiFT) on clean (Std),"
    " corrupted (OOD) and attacked (Adv) test images"
)
_PRINTED = (
    "The paper's numbers are means of three seeds; its Adv is PGD-10, and it chose the epoch kept and α on test images. It"
    " gives no beta and no gamma."
)


@dataclass(frozen=True)
class Table:
    """A table to read and its numbers to compute with.

    Attributes:
        title: what it is called.
        caption: what it shows, in a sentence or two.
        shown: texts as a reader sees them; the index holds the row headings.
        numbers: one row a number or pair of numbers, unrounded.
        notes: how the numbers were made.
    """

    title: str
    caption: str
    shown: pd.DataFrame
    numbers: pd.DataFrame
    notes: list[str] = field(default_factory=list)


Row = dict[str, Any]


def main(folder: Path, grid: Grid) -> Table:
    """Base and RiFT on every data set, laid out as the paper's first table."""
    results = Results(folder, grid)
    numbers = pd.DataFrame(
        [row for cell in cells(grid) for row in _measure(results, cell, _with_and_without_rift(cell, grid))]
    )
    datasets = [*grid.datasets, AVERAGE] if len(grid.datasets) > 1 else grid.datasets
    rows = _lay_out(_with_averages(numbers, grid), _base, _by_dataset)
    return Table(
        "Main results",
        f"{_BEFORE_AND_AFTER}.",
        _shown(rows, _columns(datasets), ("Base", "Method")),
        numbers,
        [*_reading(grid), *_protocol(results)],
    )


def regimes(folder: Path, grid: Grid) -> Table:
    """Base and RiFT of every training regime beside what the paper prints, as in its second table."""
    results = Results(folder, grid)
    numbers: list[Row] = []
    rows: dict[tuple[str, str], dict[Hashable, str]] = {}
    for architecture, regime in product(grid.architectures, grid.regimes):
        bases = [Cell(dataset, architecture, regime) for dataset in grid.datasets]
        compared = _with_and_without_rift(bases[0], grid)
        measured = [row for cell in bases for row in _measure(results, cell, compared)]
        printed = [row for cell in bases for row in _printed(cell, compared)]
        numbers += [{"source": "measured", **row} for row in measured] + [{"source": PAPER, **row} for row in printed]
        rows |= _lay_out(measured, _base, _by_dataset)
        # A row at least: that the paper says nothing of a regime is to be seen.
        rows[_base_of_the_paper(bases[0]._asdict()), next(iter(compared))] = {}
        rows |= _lay_out(printed, _base_of_the_paper, _by_dataset)
    return Table(
        "Training regimes",
        f"{_BEFORE_AND_AFTER}, by training regime. Rows of the {PAPER} are what Zhu et al. (ICCV 2023) print; all others were"
        " measured.",
        _shown(rows, _columns(grid.datasets), ("Base", "Method")),
        pd.DataFrame(numbers),
        [*_reading(grid), *_how_trained(results), _PRINTED, *_protocol(results)],
    )


def _with_and_without_rift(cell: Cell, grid: Grid) -> dict[str, Variant]:
    base = "standard" if cell.regime == "standard" else "AT"
    return {base: BASE, f"{base} + RiFT": "rift"} if "rift" in grid.scopes else {base: BASE}


def module_ablation(folder: Path, grid: Grid) -> Table:
    """What fine-tuning other scopes than the least critical module gives, as in the paper's third table."""
    scopes: dict[str, Scope] = {
        "all layers": "all-layers",
        "last layer": "last-layer",
        "most critical module": "robust-critical",
        "least critical module (RiFT)": "rift",
        **{scope.removeprefix("module-"): scope for scope in grid.scopes if scope.startswith("module-")},
    }
    caption = "Fine-tuning of different scopes of the same base: accuracy (%), and what it gains over the base."
    return _scopes(Results(folder, grid), scopes, "Which module to fine-tune", caption)


def top_k(folder: Path, grid: Grid) -> Table:
    """What fine-tuning more than the one least critical module gives, as in the paper's fourth table."""
    scopes: dict[str, Scope] = {"top 1 (RiFT)": "rift", "top 2": "top2", "top 3": "top3", "top 5": "top5"}
    caption = (
        "Fine-tuning of the k least critical modules of the same base: accuracy (%), and what it gains over the base."
    )
    return _scopes(Results(folder, grid), scopes, "How many modules to fine-tune", caption)


def criticality(folder: Path, grid: Grid) -> Table:
    """Measure of every module, over seeds."""
    results = Results(folder, grid)
    tables = {cell: results.criticality(cell) for cell in cells(grid)}
    texts: dict[tuple[str, str], dict[str, str]] = {}
    for cell, table in tables.items():
        takers = {scope: results.chosen(cell, scope) for scope in grid.scopes}
        for module, rows in table.groupby("module", sort=False):
            texts[_name(cell), str(module)] = {
                "Parameters": f"{rows['parameters'].iloc[0]:,}",
                "MRC (nats)": _spread(rows["mrc"], 3),
                "Standard error": _spread(rows["mrc_error"], 3),
                "Adv drop (points)": _spread(rows["robust_accuracy_drop"], 1),
                "Rank by seed": ", ".join(
                    f"{rank}{'=' if tied and rank > 1 else ''}"
                    for rank, tied in zip(rows["rank"], rows["tied"], strict=True)
                ),
                "Chosen by": ", ".join(_takes(str(module), takers, grid)),
            }
    shown = pd.DataFrame.from_dict(texts, orient="index")
    shown.index = pd.MultiIndex.from_tuples(texts, names=["Base", "Module"])
    numbers = pd.concat([table.assign(**cell._asdict()) for cell, table in tables.items()], ignore_index=True)
    return Table(
        "Module robust criticality",
        "How much the robust loss rises (MRC) and the robust accuracy falls when one module's weights are moved against it."
        " Modules in the network's order.",
        shown,
        numbers,
        [
            f"Mean ± standard deviation over {_seeds(grid)}." if len(grid.seeds) > 1 else f"One seed: {_seeds(grid)}.",
            "The standard error is that of the MRC over images: how far it would move with others of the same kind, the moved"
            " weight staying. (Of the method gradient it is over batches.)",
            "Rank 1 is the least critical module; = marks those whose MRC cannot be told from it: image by image, the"
            " difference is within 1.96 standard errors.",
            *dict.fromkeys(_criticality_protocol(results, cell) for cell in tables),
        ],
    )


def _takes(module: str, takers: Mapping[Scope, list[list[str]]], grid: Grid) -> Iterator[str]:
    """Name the scopes that have fine-tuned a module, and in which runs, if not in all."""
    for scope, chosen in takers.items():
        seeds = [seed for seed, modules in zip(grid.seeds, chosen, strict=True) if module in modules]
        if seeds:
            yield scope if len(seeds) == len(grid.seeds) else f"{scope} (seed {', '.join(map(str, seeds))})"


TABLES: dict[TableName, Callable[[Path, Grid], Table]] = {
    "main": main,
    "regimes": regimes,
    "module-ablation": module_ablation,
    "top-k": top_k,
    "criticality": criticality,
}


def _scopes(results: Results, scopes: Mapping[str, Scope], title: str, caption: str) -> Table:
    """Compare scopes, as far as the grid has them, with their base."""
    grid = results.grid
    compared: dict[str, Variant] = {"base": BASE}
    compared |= {label: scope for label, scope in scopes.items() if scope in grid.scopes}
    numbers = [row for cell in cells(grid) for row in _measure(results, cell, compared)]
    rows = _lay_out(numbers, head=lambda row: _name(_cell(row)), column=lambda row: METRICS[row["metric"]])
    for row in numbers:
        if row["variant"] != BASE:
            alphas = [f"{choice['alpha']:g}" for choice in results.selections(_cell(row), row["variant"])]
            rows[_name(_cell(row)), row["method"]]["α"] = ", ".join(alphas)
    shown = _shown(rows, pd.Index([*METRICS.values(), "α"]), ("Base", "Fine-tuned"))
    notes = ["α is the chosen point between base (0) and fine-tuned weights (1), by seed.", *_reading(grid)]
    return Table(title, caption, shown, pd.DataFrame(numbers), [*notes, *_protocol(results)])


def _lay_out(
    numbers: Iterable[Row], head: Callable[[Row], str], column: Callable[[Row], Hashable]
) -> dict[tuple[str, str], dict[Hashable, str]]:
    """Write every number where it belongs: a row a method, and below each that is not the base a row of differences."""
    rows: dict[tuple[str, str], dict[Hashable, str]] = {}
    for row in numbers:
        rows.setdefault((head(row), row["method"]), {})[column(row)] = _accuracy_text(row)
        if row["variant"] != BASE:
            rows.setdefault((head(row), f"{DELTA} {row['method']}"), {})[column(row)] = _delta_text(row)
    return rows


def _shown(
    rows: Mapping[tuple[str, str], Mapping[Hashable, str]], columns: "pd.Index[Any]", names: tuple[str, str]
) -> pd.DataFrame:
    """Arrange texts in columns; what was not run shows as such, and whose difference a row of them is its place says."""
    texts = [
        [row.get(column, "" if method.startswith(DELTA) and column == "α" else NOT_RUN) for column in columns]
        for (_, method), row in rows.items()
    ]
    heads = [(head, DELTA if method.startswith(DELTA) else method) for head, method in rows]
    return pd.DataFrame(texts, columns=columns, index=pd.MultiIndex.from_tuples(heads, names=names))


def _measure(results: Results, cell: Cell, compared: Mapping[str, Variant]) -> Iterator[Row]:
    """Every metric of every variant that was run, and its difference from the base."""
    for metric in METRICS:
        base = results.scores(cell, BASE, metric)
        for method, variant in compared.items():
            scores = results.scores(cell, variant, metric)
            if scores is None:
                continue
            row: Row = {**cell._asdict(), "method": method, "variant": variant, "metric": metric}
            row |= accuracy(scores)._asdict()
            if variant != BASE and base is not None:
                row |= {f"delta_{name}": value for name, value in paired_delta(base, scores)._asdict().items()}
            yield row


def _printed(cell: Cell, compared: Mapping[str, Variant]) -> Iterator[Row]:
    """Every accuracy of these variants that the paper prints, and its difference from the base."""
    for metric in METRICS:
        base = published.accuracy(cell, BASE, metric)
        for method, variant in compared.items():
            value = published.accuracy(cell, variant, metric)
            if value is not None:
                row: Row = {**cell._asdict(), "method": method, "variant": variant, "metric": metric, "mean": value}
                yield row if variant == BASE or base is None else {**row, "delta_mean": value - base}


def _with_averages(numbers: pd.DataFrame, grid: Grid) -> Iterator[Row]:
    """Go through the rows; then through their means over architectures, over data sets, and over both, where there are several.

    A mean has no deviation and no interval: those of its parts do not add up to one without saying how they depend.
    """
    means = numbers.drop(columns=["sd", "delta_low", "delta_high"], errors="ignore")
    several = {"architecture": len(grid.architectures) > 1, "dataset": len(grid.datasets) > 1}
    yield from _records(numbers)
    for averaged in (["dataset"], ["architecture"], ["dataset", "architecture"]):
        if all(several[column] for column in averaged):
            kept = [name for name in ("dataset", "architecture", "regime") if name not in averaged]
            groups = means.groupby([*kept, "method", "variant", "metric"], sort=False, as_index=False)
            yield from _records(groups.mean(numeric_only=True).assign(**dict.fromkeys(averaged, AVERAGE)))


def _records(numbers: pd.DataFrame) -> Iterator[Row]:
    for row in numbers.to_dict("records"):
        yield {str(name): value for name, value in row.items()}


def _accuracy_text(row: Row) -> str:
    mean, sd = row["mean"], row.get("sd", math.nan)
    return f"{mean:.2f}" if math.isnan(sd) else f"{mean:.2f} ± {sd:.2f}"


def _delta_text(row: Row) -> str:
    delta = Delta(*(row.get(f"delta_{name}", math.nan) for name in Delta._fields))
    if math.isnan(delta.mean):
        return NOT_RUN
    if math.isnan(delta.low):
        return _signed(delta.mean)
    mark = "*" if delta.leaves_out_zero else ""
    return f"{_signed(delta.mean)}{mark} [{_signed(delta.low)}, {_signed(delta.high)}]"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _spread(values: "pd.Series[float]", digits: int) -> str:
    if values.isna().all():
        return NOT_RUN
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else mean


def _columns(datasets: Iterable[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_product([datasets, METRICS.values()])


def _by_dataset(row: Row) -> Hashable:
    return row["dataset"], METRICS[row["metric"]]


def _base(row: Row) -> str:
    return ", ".join(filter(None, (row["architecture"], row["regime"])))


def _base_of_the_paper(row: Row) -> str:
    return f"{_base(row)} ({PAPER})"


def _cell(row: Row) -> Cell:
    return Cell(row["dataset"], row["architecture"], row["regime"])


def _name(cell: Cell) -> str:
    return ", ".join(cell)


def _seeds(grid: Grid) -> str:
    return f"seed {grid.seeds[0]}" if len(grid.seeds) == 1 else f"seeds {', '.join(map(str, grid.seeds))}"


def _reading(grid: Grid) -> list[str]:
    """How to read an accuracy and a difference."""
    spread = f"mean ± standard deviation over {_seeds(grid)}" if len(grid.seeds) > 1 else f"of {_seeds(grid)} alone"
    return [
        f"Accuracies are the {spread}." if len(grid.seeds) > 1 else f"Accuracies are those {spread}.",
        "Δ is the difference from the base in percentage points with its 95% interval (paired bootstrap over test images);"
        " an asterisk marks one whose interval leaves out zero.",
    ]


def _how_trained(results: Results) -> Iterator[str]:
    """How the bases were trained here, a sentence for each way and its data sets."""
    grid = results.grid
    for architecture, regime in product(grid.architectures, grid.regimes):
        datasets: dict[str, dict[str, None]] = {}
        for dataset in grid.datasets:
            for settings in results.base_settings(Cell(dataset, architecture, regime)):
                if settings["stage"] == "train":
                    datasets.setdefault(_recipe(settings, regime), {})[dataset] = None
        for recipe, names in datasets.items():
            yield f"{architecture}, {regime} ({', '.join(names)}): {recipe}."


def _recipe(settings: Mapping[str, Any], regime: RegimeName) -> str:
    """Say in a few words what a base was trained with."""
    train, inner = settings["train"], {**settings["attack"], **{k: v for k, v in settings["inner"].items() if v}}
    drops = f" ÷10 after {', '.join(map(str, train['milestones']))}" if train["schedule"] == "step" else ""
    said = [
        f"{train['epochs']} epochs",
        f"learning rate {train['learning_rate']:g}{drops or ', ' + train['schedule']}",
        f"weight decay {train['weight_decay']:g}",
    ]
    if regime != "standard":
        attack = f"PGD-{inner['steps']} from a {inner['start']} start" if inner["method"] == "pgd" else inner["method"]
        said.append(f"{attack} (eps {inner['eps']:.4g})")
    for section in RECIPES[regime].sections:
        said += [f"{section} {name} {value:g}" for name, value in settings[section].items()]
    if train["averaging"]:
        said.append(f"weights averaged ({train['averaging']:g})")
    if train["init"]:
        said.append(f"from {train['init']}")
    return "trained for " + ", ".join(said)


def _protocol(results: Results) -> list[str]:
    """What the accuracies were measured on, as the artifacts say."""
    notes: dict[str, None] = {}
    for cell in cells(results.grid):
        for base in results.imports(cell):
            file = base["weights"] + (f", sha256 {base['sha256'][:12]}" if base["sha256"] else "")
            notes[
                f"{_name(cell)}: the base was not trained here but imported ({file}; normalisation:"
                f" {base['normalization']['from']})."
            ] = None
        counts = {metric: _images(results.scores(cell, BASE, metric)) for metric in METRICS}
        attacks = results.adversarial(cell, BASE)
        pgd = attacks["pgd"]
        ood = results.ood(cell, BASE)
        text = (
            f"{cell.dataset}: Std on {counts['std']} test images; OOD on {counts['ood']}, mean of"
            f" {ood['corruption'].nunique()} corruptions × {ood['severity'].nunique()} severities,"
            f" {' and '.join(ood['source'].unique())}; PGD-{pgd['steps']} on"
            f" {counts['pgd']} (Linf, eps {pgd['eps']:.4g}, step {pgd['step']:.4g}, worst of {pgd['restarts']})"
        )
        if counts["autoattack"]:
            text += f"; AutoAttack, {attacks['autoattack']['version']} version, on the first {counts['autoattack']}"
        notes[f"{text}."] = None
        for scope in results.grid.scopes:
            for choice in results.selections(cell, scope):
                warning = " These are test data, as in the paper." if choice["selection"] == "test" else ""
                notes[
                    f"{cell.dataset}: α is the most accurate point that loses at most {choice['tolerance']:g} points"
                    f" under PGD (worst of {choice['restarts']}, computed in {choice['precision']}) on {choice['images']}"
                    f" images of the {choice['selection']} split.{warning}"
                ] = None
        if results.criticality_settings(cell)["criticality"]["split"] == "test":
            notes[f"{cell.dataset}: criticality was measured on test data, as in the paper."] = None
    return list(notes)


def _criticality_protocol(results: Results, cell: Cell) -> str:
    settings = results.criticality_settings(cell)
    measure, attack = settings["criticality"], settings["attack"]
    which = "all images" if measure["images"] == "all" else f"{measure['images']} images"
    return (
        f"{_name(cell)}: {SEARCHES[measure['method']]}, weights moved by at most {measure['epsilon']:g} of their"
        f" {'norm' if measure['norm'] == 'l2' else 'largest entry'}, on PGD-{attack['steps']} examples"
        f" (eps {attack['eps']:.4g}) of {which} of the {measure['split']} split; ascent in {measure['precision']}."
    )


def _images(scores: "Array | None") -> int:
    return 0 if scores is None else scores.shape[1]
