"""Notes below a table: how to read it, how its numbers were made, and which results are missing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, cast

import pandas as pd

from rift import layout
from rift.config import (
    NORMS,
    PROTOCOLS,
    Grid,
    SearchName,
    Variant,
    norm_of,
)
from rift.config.values import leaves
from rift.layout import Cell
from rift.reporting.lineage import check_current
from rift.reporting.outcomes import METRICS, Metric
from rift.reporting.results import Results, cells
from rift.reporting.tables.table import BASE, LEVEL, NOT_RUN
from rift.reporting.texts import listed, name_of, seeds_text

SEARCHES: dict[SearchName, str] = {
    "pga": "search by projected gradient ascent",
    "published": "the published search",
    "gradient": "first-order estimate",
    "race": "a race of searches by projected gradient ascent",
}
PRECISIONS = {"auto": "bfloat16 where the device has instructions for it, else float32"}
PUBLISHED = (
    "The numbers of the paper are means of three seeds. Its Adv is accuracy under PGD-10. The paper"
    " selected its epochs and α on test images."
)
NOT_BY_TOLERANCE = (
    "The paper's rows of this table lose up to 1.4 points of Adv, far more than the tolerance of"
    " 0.1 that its method allows. Here every scope is selected by the tolerance, so a scope that"
    " loses robustness stays close to the base."
)
ON_TEST = "These are test data, as in the paper."


def reading(grid: Grid, reference: str = "the base") -> list[str]:
    """Return how to read accuracies and differences.

    Args:
        grid: its seeds are named.
        reference: description of the variants that others are compared with.
    """
    if len(grid.seeds) > 1:
        accuracies = f"Accuracies are the mean ± standard deviation over {seeds_text(grid.seeds)}."
    else:
        accuracies = (
            f"Accuracies are of {seeds_text(grid.seeds)} only, with their 95% interval over test"
            " images (Wilson; OOD: bootstrap). This interval does not include the variation between"
            " seeds."
        )
    differences = (
        f"Δ is the difference from {reference} in percentage points, with its 95% interval (paired"
        " bootstrap over test images). p is the p-value of the exact McNemar test over the same"
        " images, for all seeds together. OOD has no p: its score is a mean of several outcomes per"
        " image. An asterisk marks a Δ that is distinguishable from zero: the interval excludes"
        f" zero, and p is at most {LEVEL:g}. There is no correction for multiple comparisons."
    )
    return [accuracies, differences]


def not_run(
    results: Results,
    compared: Mapping[Cell, Iterable[Variant]],
    shown: pd.DataFrame,
    metrics: Iterable[Metric] = tuple(METRICS),
) -> list[str]:
    """Return which results are missing, cell by cell.

    Args:
        results: results of the table.
        compared: variants of the table by cell.
        shown: texts of the table; the mark of missing results is explained if it occurs there.
        metrics: metrics of the table.
    """
    missing: list[str] = []
    for cell, variants in compared.items():
        lacking: dict[tuple[int, ...], list[str]] = {}
        asked = 0
        for variant, metric in product(variants, metrics):
            if metric == "autoattack" and variant not in results.grid.autoattack:
                continue
            asked += 1
            found = results.outcomes(cell, variant, metric)
            evaluated = () if found is None else found.seeds
            seeds = tuple(seed for seed in results.grid.seeds if seed not in evaluated)
            if seeds:
                lacking.setdefault(seeds, []).append(f"{variant} {METRICS[metric]}")

        if lacking.keys() == {results.grid.seeds} and len(lacking[results.grid.seeds]) == asked:
            missing.append(f"{name_of(cell)}: everything")
        elif lacking:
            parts = (f"{listed(names)} ({_seeds(s, results.grid)})" for s, names in lacking.items())
            missing.append(f"{name_of(cell)}: {'; '.join(parts)}")
    marked = bool((shown == NOT_RUN).any(axis=None))
    lines = [f"{NOT_RUN} marks results that do not exist."] if marked else []
    return [*lines, f"Not evaluated yet: {'. '.join(missing)}."] if missing else lines


def _seeds(seeds: tuple[int, ...], grid: Grid) -> str:
    return "all seeds" if seeds == grid.seeds and len(seeds) > 1 else seeds_text(seeds)


def versions(results: Results) -> list[str]:
    """Return which versions of rift and torch computed the results.

    Raises:
        RiftError: a result is of another version of its stage, or a file is damaged.
    """
    files: dict[str, list[str]] = {}
    for path, source in results.sources():
        check_current(path, source)
        if "rift" in source:
            commit = f" ({source['commit'][:12]})" if source.get("commit") else ""
            text = f"rift {source['rift']}{commit} with torch {source.get('torch')}"
            files.setdefault(text, []).append(path.relative_to(results.folder).as_posix())
    if len(files) < 2:
        return [f"Computed by {text}." for text in files]
    counted = (
        f"{text} ({'1 file' if len(paths) == 1 else f'{len(paths)} files'}, first {paths[0]})"
        for text, paths in files.items()
    )
    return [f"The results are of different versions: {'; '.join(counted)}."]


def how_measured(results: Results) -> list[str]:
    """Return how the accuracies were measured, from the artifacts that exist."""
    notes = (
        note
        for cell in cells(results.grid)
        for part in (_imports, _evaluation, _selections, _criticality_on_test)
        for note in part(results, cell)
    )
    return list(dict.fromkeys(notes))


def _imports(results: Results, cell: Cell) -> Iterator[str]:
    for base in results.with_files(cell, layout.BASE).imports(cell):
        file = base["weights"] + (f", sha256 {base['sha256'][:12]}" if base["sha256"] else "")
        normalisation = base["normalization"]["from"]
        yield (
            f"{name_of(cell)}: the base was imported, not trained here ({file};"
            f" normalisation: {normalisation})."
        )


def _evaluation(results: Results, cell: Cell) -> Iterator[str]:
    """Yield how the base of a cell was evaluated."""
    found = {metric: results.outcomes(cell, BASE, metric) for metric in METRICS}
    counts = {name: some.array.shape[1] for name, some in found.items() if some is not None}
    corrupted = results.with_files(cell, layout.result(BASE, "ood"))
    attacked = results.with_files(cell, layout.result(BASE, "adversarial"))
    attacks = attacked.adversarial(cell, BASE) if attacked.grid.seeds else {}

    parts: list[str] = []
    if "std" in counts:
        parts.append(f"Std on {counts['std']} test images")
    if "ood" in counts and corrupted.grid.seeds:
        parts.append(f"OOD on {counts['ood']}, {corruptions(corrupted, cell)}")
    if "pgd" in counts and "pgd" in attacks:
        pgd = attacks["pgd"]
        parts.append(
            f"PGD-{pgd['steps']} on {counts['pgd']} ({threat(pgd)}, step"
            f" {pgd['step']:.4g}, worst of {pgd['restarts']})"
        )
    if "autoattack" in counts and "autoattack" in attacks:
        version, count = attacks["autoattack"]["version"], counts["autoattack"]
        ball = threat(attacks["autoattack"])
        parts.append(f"AutoAttack ({ball}), {version} version, on the first {count}")
    if parts:
        yield f"{cell.dataset}: {'; '.join(parts)}."


def _selections(results: Results, cell: Cell) -> Iterator[str]:
    for scope in results.grid.scopes:
        for choice in results.selected_points(cell, scope):
            warning = f" {ON_TEST}" if choice["selection"] == "test" else ""
            points = "point" if choice["tolerance"] == 1 else "points"
            confidence = choice.get("confidence")
            sure = f", with {100 * confidence:g}% confidence," if confidence is not None else ""
            yield (
                f"{cell.dataset}: α is the most accurate point that loses at most"
                f" {choice['tolerance']:g} {points}{sure} under PGD (worst of {choice['restarts']},"
                f" computed in {choice['precision']}) on {choice['images']} images of the"
                f" {choice['selection']} split.{warning}"
            )


def _criticality_on_test(results: Results, cell: Cell) -> Iterator[str]:
    measured = results.with_files(cell, layout.CRITICALITY)
    if not measured.grid.seeds:
        return
    if measured.criticality_settings(cell)["criticality"]["split"] == "test":
        yield f"{cell.dataset}: criticality was measured on test data, as in the paper."


def corruptions(results: Results, cell: Cell) -> str:
    """Return which corrupted images the base of a cell was evaluated on, and their source."""
    ood = results.ood(cell, BASE)
    levels = sorted(ood["severity"].unique())
    severities = f"{len(levels)} severities" if len(levels) > 1 else f"severity {levels[0]}"
    sources = " and ".join(ood["source"].unique())
    return f"mean of {ood['corruption'].nunique()} corruptions × {severities}, {sources}"


def criticality(results: Results, cell: Cell) -> str:
    """Return how the criticality of a cell was measured."""
    settings = results.criticality_settings(cell)
    measure, attack = settings["criticality"], settings["attack"]
    images = "all images" if measure["images"] == "all" else f"{measure['images']} images"
    norm = "norm" if measure["norm"] == "l2" else "largest entry"
    warning = f" {ON_TEST}" if measure["split"] == "test" else ""
    return (
        f"{name_of(cell)}: {SEARCHES[measure['method']]}, weights moved by at most"
        f" {measure['epsilon']:g} of their {norm}, on PGD-{attack['steps']} examples"
        f" ({threat(attack)}) of {images} of the {measure['split']} split; ascent in"
        f" {PRECISIONS.get(measure['precision'], measure['precision'])}.{warning}"
    )


def threat(attack: Mapping[str, Any]) -> str:
    """Return the threat model of dumped settings in words: ``Linf, eps 0.03137``.

    Args:
        attack: settings of an attack, or results that contain its threat model.
    """
    return f"{NORMS[norm_of(attack)]}, eps {attack['eps']:.4g}"


def selected_on_test(results: Results) -> bool:
    """Return whether any α was selected on test data."""
    return any(
        choice["selection"] == "test"
        for cell, scope in product(cells(results.grid), results.grid.scopes)
        for choice in results.selected_points(cell, scope)
    )


def protocol(results: Results) -> list[str]:
    """Return a note that names the paper's protocol and every departure from it.

    There is no note unless α was selected on test data, as that protocol does.
    """
    if not selected_on_test(results):
        return []
    departures: dict[str, None] = {}
    for cell in cells(results.grid):
        expected = leaves(PROTOCOLS["paper"].settings_for(cell.target))
        for settings in _settings(results, cell):
            for key, value in leaves(settings).items():
                if key in expected and not _equal(value, expected[key]):
                    theirs = _short(expected[key])
                    text = f"{key} {_short(value)} (paper: {theirs}; {cell.dataset})"
                    departures[text] = None
    except_for = f", except for {listed(departures)}" if departures else ""
    return [
        f"Protocol: the paper's{except_for}. Epochs are selected on images that are cut from the"
        " training split. The paper trained on these images and selected epochs on test images."
    ]


def _settings(results: Results, cell: Cell) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of all stages of a cell after training that exist."""
    measured = results.with_files(cell, layout.CRITICALITY)
    if measured.grid.seeds:
        yield measured.criticality_settings(cell)
    for scope in results.grid.scopes:
        tuned = results.with_files(cell, layout.finetuned(scope))
        yield from tuned.finetune_settings(cell, scope)
        for choice in results.selected_points(cell, scope):
            yield choice["provenance"]["settings"]
    for metric in cast("tuple[Metric, ...]", ("std", "ood", "pgd")):
        found = results.outcomes(cell, BASE, metric)
        yield from found.settings.values() if found else ()


def _equal(value: Any, expected: Any) -> bool:
    sequences = isinstance(value, list) and isinstance(expected, list | tuple)
    return list(value) == list(expected) if sequences else bool(value == expected)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return (
        listed(value) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    )
