"""Tables that compare variants of the same bases: one definition each."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rift.config import Grid, Scope, Variant
from rift.errors import RiftError
from rift.reporting import published
from rift.reporting.results import METRICS, Cell, Metric, Outcomes, Results, cells
from rift.reporting.tables import notes
from rift.reporting.tables.table import (
    BASE,
    DELTA,
    EXACT,
    NOT_RUN,
    PAPER,
    Row,
    Table,
    accuracy_text,
    delta_text,
    frame,
    is_told_from_zero,
    name_of,
    p_text,
)
from rift.statistics import accuracy, exact_test, is_yes_or_no, paired_delta

AVERAGE = "average"
ALPHA = "α"

_BEFORE_AND_AFTER = (
    "Accuracy (%) of adversarially trained bases (AT) before and after robust critical fine-tuning (RiFT) on clean (Std),"
    " corrupted (OOD) and attacked (Adv) test images"
)
_COLUMNS = (
    "mean",
    "sd",
    "low",
    "high",
    "seeds",
    "images",
    "delta_mean",
    "delta_low",
    "delta_high",
    "p",
    "gained",
    "lost",
    "distinguishable",
    "published",
    "published_delta",
)


@dataclass(frozen=True)
class Comparison:
    """What a comparison is made of: its whole definition.

    Attributes:
        title: of the table.
        caption: of the table.
        variants: what is compared, by how it is called; the base among them.
        by_dataset: whether data sets stand side by side, as in the paper's first tables, or below each other with the α chosen.
        paper: whether rows of the paper stand there where it prints nothing as well.
        averages: whether to average over data sets and architectures, where there are several.
        how_trained: whether notes say how bases were trained.
    """

    title: str
    caption: str
    variants: Callable[[Cell, Grid], Mapping[str, Variant]]
    by_dataset: bool = False
    paper: bool = False
    averages: bool = False
    how_trained: bool = False


def main(folder: Path, grid: Grid) -> Table:
    """Base and RiFT on every data set, laid out as the paper's first table."""
    definition = Comparison(
        "Main results", f"{_BEFORE_AND_AFTER}.", _with_and_without_rift, by_dataset=True, averages=True
    )
    return _make(Results(folder, grid), definition)


def regimes(folder: Path, grid: Grid) -> Table:
    """Base and RiFT of every training regime beside what the paper prints, as in its second table."""
    definition = Comparison(
        "Training regimes",
        f"{_BEFORE_AND_AFTER}, by training regime. Rows of the {PAPER} are what Zhu et al. (ICCV 2023) print; all others were"
        " measured.",
        _with_and_without_rift,
        by_dataset=True,
        paper=True,
        how_trained=True,
    )
    return _make(Results(folder, grid), definition)


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
    return _make(Results(folder, grid), Comparison("Which module to fine-tune", caption, _with_scopes(scopes)))


def top_k(folder: Path, grid: Grid) -> Table:
    """What fine-tuning more than the one least critical module gives, as in the paper's fourth table."""
    scopes: dict[str, Scope] = {"top 1 (RiFT)": "rift", "top 2": "top2", "top 3": "top3", "top 5": "top5"}
    caption = (
        "Fine-tuning of the k least critical modules of the same base: accuracy (%), and what it gains over the base."
    )
    return _make(Results(folder, grid), Comparison("How many modules to fine-tune", caption, _with_scopes(scopes)))


def _with_and_without_rift(cell: Cell, grid: Grid) -> dict[str, Variant]:
    base = "standard" if cell.regime == "standard" else "AT"
    return {base: BASE, f"{base} + RiFT": "rift"} if "rift" in grid.scopes else {base: BASE}


def _with_scopes(scopes: Mapping[str, Scope]) -> Callable[[Cell, Grid], dict[str, Variant]]:
    """Compare scopes, as far as the grid has them, with their base."""

    def variants(_: Cell, grid: Grid) -> dict[str, Variant]:
        return {"base": BASE, **{label: scope for label, scope in scopes.items() if scope in grid.scopes}}

    return variants


def _make(results: Results, definition: Comparison) -> Table:
    """Make a table by its definition.

    Raises:
        RiftError: nothing that it compares has been evaluated, or an artifact is damaged.
    """
    grid = results.grid
    compared = {cell: definition.variants(cell, grid) for cell in cells(grid)}
    rows = [row for cell, variants in compared.items() for row in measure(results, cell, variants)]
    if all(math.isnan(row["mean"]) for row in rows):
        raise RiftError(
            f"{results.folder}: no run of the grid has been evaluated, so the table would be empty; run rift evaluate first"
        )
    printed = any(not math.isnan(row["published"]) for row in rows)
    said = [
        *(
            [f"{ALPHA} is the chosen point between base (0) and fine-tuned weights (1), by seed."]
            * (not definition.by_dataset)
        ),
        *notes.reading(grid),
        *notes.not_run(results, {cell: list(variants.values()) for cell, variants in compared.items()}),
        *(notes.how_trained(results) if definition.how_trained else ()),
        *([notes.PRINTED] if printed or definition.paper else []),
        *(["The paper gives no beta and no gamma."] if definition.how_trained else []),
        *notes.how_measured(results),
    ]
    shown = _shown(results, definition, compared, [*rows, *(_averages(rows, grid) if definition.averages else ())])
    return Table(definition.title, definition.caption, shown, numbers(rows), said)


def measure(results: Results, cell: Cell, compared: Mapping[str, Variant]) -> Iterator[Row]:
    """Every metric of every variant that was evaluated or that the paper prints, and its difference from the base.

    A row has the columns of the numbers; what there is none of is NaN.
    """
    for metric in METRICS:
        base, base_printed = results.outcomes(cell, BASE, metric), published.accuracy(cell, BASE, metric)
        for method, variant in compared.items():
            found, printed = results.outcomes(cell, variant, metric), published.accuracy(cell, variant, metric)
            if found is None and printed is None:
                continue
            row: Row = {**cell._asdict(), "method": method, "variant": variant, "metric": metric}
            row |= dict.fromkeys(_COLUMNS, math.nan)
            if printed is not None:
                row["published"] = printed
                if variant != BASE and base_printed is not None:
                    row["published_delta"] = printed - base_printed
            if found is not None:
                row |= accuracy(found.array)._asdict()
                if variant != BASE and base is not None:
                    row |= difference(base, found)
            yield row


def difference(base: Outcomes, variant: Outcomes) -> Row:
    """How a variant differs from its base over the seeds that both have; empty if there are none."""
    before, after = base.paired(variant)
    if not len(before):
        return {}
    delta = paired_delta(before, after)
    row: Row = {f"delta_{name}": value for name, value in delta._asdict().items()}
    p = math.nan
    if is_yes_or_no(before) and is_yes_or_no(after):
        test = exact_test(before, after)
        p = test.p
        row |= {"p": p, "gained": test.gained, "lost": test.lost}
        shared = [seed for seed in base.seeds if seed in variant.scores]
        row |= {f"p_seed{seed}": value for seed, value in zip(shared, test.by_seed, strict=True)}
    return {**row, "distinguishable": is_told_from_zero(delta, p)}


def numbers(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a data frame, with the p of single seeds last."""
    table = pd.DataFrame(rows)
    last = sorted((name for name in table if str(name).startswith("p_seed")), key=lambda name: int(str(name)[6:]))
    return table[[*(name for name in table if name not in last), *last]]


def _averages(rows: Iterable[Row], grid: Grid) -> Iterator[Row]:
    """Means over architectures, over data sets, and over both, where there are several and all were evaluated.

    A mean has no deviation and no interval: those of its parts do not add up to one without saying how they depend.
    """
    table = pd.DataFrame(rows)
    several = {"architecture": grid.architectures, "dataset": grid.datasets}
    for averaged in (["dataset"], ["architecture"], ["dataset", "architecture"]):
        if all(len(several[column]) > 1 for column in averaged):
            wanted = math.prod(len(several[column]) for column in averaged)
            kept = [name for name in ("dataset", "architecture", "regime") if name not in averaged]
            for key, group in table.groupby([*kept, "method", "variant", "metric"], sort=False):
                whole = group[["mean", "delta_mean", "published", "published_delta"]]
                means = whole.mean().where(whole.notna().sum() == wanted)
                yield {
                    **dict.fromkeys(averaged, AVERAGE),
                    **dict(zip([*kept, "method", "variant", "metric"], key, strict=True)),
                    **{str(name): value for name, value in means.items()},
                }


def _shown(
    results: Results, definition: Comparison, compared: Mapping[Cell, Mapping[str, Variant]], rows: list[Row]
) -> pd.DataFrame:
    """Write every number where it belongs: a row a method, and below each that is not the base rows of its difference."""
    grid = results.grid
    datasets = [*grid.datasets, *([AVERAGE] if definition.averages and len(grid.datasets) > 1 else [])]
    columns: pd.Index[Any] = pd.Index([*METRICS.values(), ALPHA])
    if definition.by_dataset:
        columns = pd.MultiIndex.from_product([datasets, METRICS.values()])

    def head(row: Row) -> str:
        place = ("architecture", "regime") if definition.by_dataset else ("dataset", "architecture", "regime")
        return ", ".join(row[name] for name in place)

    def column(row: Row) -> Hashable:
        metric: Metric = row["metric"]
        return (row["dataset"], METRICS[metric]) if definition.by_dataset else METRICS[metric]

    # Every row is there before any number is: what was not run shows as such.
    heads: dict[str, Mapping[str, Variant]] = {head(cell._asdict()): variants for cell, variants in compared.items()}
    heads |= {
        head(row): heads[head({**row, "architecture": grid.architectures[0]})] for row in rows if head(row) not in heads
    }
    own: dict[tuple[str, str], dict[Hashable, str]] = {}
    of_paper: dict[tuple[str, str], dict[Hashable, str]] = {}
    for row in rows:
        where, method, place = head(row), row["method"], column(row)
        own.setdefault((where, method), {})[place] = accuracy_text(row, len(grid.seeds))
        if row["variant"] != BASE:
            own.setdefault((where, f"{DELTA} {method}"), {})[place] = delta_text(row)
            own.setdefault((where, f"{EXACT} {method}"), {})[place] = p_text(row.get("p", math.nan))
        if not math.isnan(row["published"]):
            of_paper.setdefault((where, method), {})[place] = f"{row['published']:.2f}"
            if row["variant"] != BASE:
                of_paper.setdefault((where, f"{DELTA} {method}"), {})[place] = delta_text(
                    {"delta_mean": row["published_delta"]}
                )
    if not definition.by_dataset:
        for cell, variants in compared.items():
            for method, variant in variants.items():
                own.setdefault((name_of(cell), method), {})[ALPHA] = _alphas(results, cell, variant)

    texts: dict[tuple[str, str], list[str]] = {}
    for where, variants in heads.items():
        for method, variant in variants.items():
            for kind in ("", DELTA, EXACT) if variant != BASE else ("",):
                found = own.get((where, f"{kind} {method}".strip()), {})
                empty = NOT_RUN if kind != EXACT else ""
                texts[where, f"{kind} {method}".strip()] = [
                    found.get(name, "" if kind and name == ALPHA else empty) for name in columns
                ]
        kinds = [f"{kind} {method}".strip() for method in variants for kind in ("", DELTA)]
        printed = [kind for kind in kinds if (where, kind) in of_paper]
        # A row at least, where it is asked for: that the paper says nothing of a regime is to be seen.
        for kind in printed or ([next(iter(variants))] if definition.paper else []):
            found = of_paper.get((where, kind), {})
            texts[f"{where} ({PAPER})", kind] = [found.get(name, "" if name == ALPHA else NOT_RUN) for name in columns]
    table = frame(texts, columns, ("Base", "Method" if definition.by_dataset else "Fine-tuned"))
    # Whose difference a row of them is its place says.
    called = {f"{kind} {method}": kind for variants in heads.values() for method in variants for kind in (DELTA, EXACT)}
    return table.rename(index=called, level=1)


def _alphas(results: Results, cell: Cell, variant: Variant) -> str:
    """The α chosen of a scope, by seed."""
    if variant == BASE:
        return NOT_RUN
    choices = results.having(cell, f"{variant}/selection.json").selections(cell, variant)
    return ", ".join(f"{choice['alpha']:g}" for choice in choices) or NOT_RUN
