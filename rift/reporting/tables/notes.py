"""What stands below a table: how to read it, how its numbers were made, and what is not there yet."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from rift.config import PROTOCOLS, RECIPES, Grid, MethodName, RegimeName, Variant
from rift.reporting.results import METRICS, Cell, Metric, Results, cells
from rift.reporting.tables.table import ALPHA, BASE, NOT_RUN, listed, name_of, seeds_of

SEARCHES: dict[MethodName, str] = {
    "pga": "search by projected gradient ascent",
    "published": "the published search",
    "gradient": "estimate to first order",
}
PRINTED = (
    "The paper's numbers are means of three seeds; its Adv is PGD-10, and it chose the epoch kept and α on test images."
)
DELTAS = (
    "Δ is the difference from the base in percentage points with its 95% interval (paired bootstrap over test images), and p"
    " that of the exact McNemar test over the same images (of several seeds together; OOD, a mean of several outcomes an image,"
    f" has none). An asterisk marks a Δ told from zero: its interval leaves out zero, and p is at most {ALPHA:g}. Nothing is"
    " corrected for the number of comparisons."
)


def reading(grid: Grid) -> list[str]:
    """How to read an accuracy and a difference."""
    if len(grid.seeds) > 1:
        accuracies = f"Accuracies are the mean ± standard deviation over {seeds_of(grid)}."
    else:
        accuracies = (
            f"Accuracies are those of {seeds_of(grid)} alone, with their 95% interval over test images (Wilson; of OOD a"
            " bootstrap): how far another seed would be from it, one seed cannot say."
        )
    return [accuracies, DELTAS]


def not_run(
    results: Results, compared: Mapping[Cell, Iterable[Variant]], metrics: Iterable[Metric] = tuple(METRICS)
) -> list[str]:
    """What is asked for and not there, cell by cell."""
    said: list[str] = []
    for cell, variants in compared.items():
        lacking: dict[tuple[int, ...], list[str]] = {}
        asked = 0
        for variant, metric in product(variants, metrics):
            if metric == "autoattack" and variant not in results.grid.autoattack:
                continue
            asked += 1
            found = results.outcomes(cell, variant, metric)
            seeds = tuple(seed for seed in results.grid.seeds if found is None or seed not in found.seeds)
            if seeds:
                lacking.setdefault(seeds, []).append(f"{variant} {METRICS[metric]}")
        if [len(what) for what in lacking.values()] == [asked] and results.grid.seeds in lacking:
            said.append(f"{name_of(cell)}: all of it")
        elif lacking:
            parts = (f"{listed(what)} ({_seeds(seeds, results.grid)})" for seeds, what in lacking.items())
            said.append(f"{name_of(cell)}: {'; '.join(parts)}")
    return [f"{NOT_RUN} stands for what was not run."] + ([f"Not evaluated yet: {'. '.join(said)}."] if said else [])


def _seeds(seeds: tuple[int, ...], grid: Grid) -> str:
    return "every seed" if seeds == grid.seeds and len(seeds) > 1 else f"seed {listed(seeds)}"


def how_trained(results: Results) -> Iterator[str]:
    """How the bases were trained here, a sentence for each way and its data sets."""
    grid = results.grid
    for architecture, regime in product(grid.architectures, grid.regimes):
        datasets: dict[str, dict[str, None]] = {}
        for dataset in grid.datasets:
            cell = Cell(dataset, architecture, regime)
            for settings in results.having(cell, "base.safetensors").base_settings(cell):
                if settings["stage"] == "train":
                    datasets.setdefault(_recipe(settings, regime), {})[dataset] = None
        for recipe, names in datasets.items():
            yield f"{architecture}, {regime} ({listed(names)}): {recipe}."


def _recipe(settings: Mapping[str, Any], regime: RegimeName) -> str:
    """Say in a few words what a base was trained with."""
    train, inner = settings["train"], {**settings["attack"], **{k: v for k, v in settings["inner"].items() if v}}
    drops = f" ÷10 after {listed(train['milestones'])}" if train["schedule"] == "step" else ""
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


def how_measured(results: Results) -> list[str]:
    """What the accuracies were measured on, as the artifacts say, those that are there."""
    notes: dict[str, None] = {}
    for cell in cells(results.grid):
        for base in results.having(cell, "base.safetensors").imports(cell):
            file = base["weights"] + (f", sha256 {base['sha256'][:12]}" if base["sha256"] else "")
            notes[
                f"{name_of(cell)}: the base was not trained here but imported ({file}; normalisation:"
                f" {base['normalization']['from']})."
            ] = None
        if said := "; ".join(_evaluation(results, cell)):
            notes[f"{cell.dataset}: {said}."] = None
        for scope in results.grid.scopes:
            for choice in results.having(cell, f"{scope}/selection.json").selections(cell, scope):
                warning = " These are test data, as in the paper." if choice["selection"] == "test" else ""
                notes[
                    f"{cell.dataset}: α is the most accurate point that loses at most {choice['tolerance']:g} points"
                    f" under PGD (worst of {choice['restarts']}, computed in {choice['precision']}) on {choice['images']}"
                    f" images of the {choice['selection']} split.{warning}"
                ] = None
        measured = results.having(cell, "criticality.csv")
        if measured.grid.seeds and measured.criticality_settings(cell)["criticality"]["split"] == "test":
            notes[f"{cell.dataset}: criticality was measured on test data, as in the paper."] = None
    return list(notes)


def _evaluation(results: Results, cell: Cell) -> Iterator[str]:
    """Say how the base of a cell was evaluated."""
    metrics: tuple[Metric, ...] = ("std", "ood", "pgd", "autoattack")
    counts = {metric: found.array.shape[1] for metric in metrics if (found := results.outcomes(cell, BASE, metric))}
    if "std" in counts:
        yield f"Std on {counts['std']} test images"
    corrupted = results.having(cell, f"evaluation/{BASE}/ood.csv")
    if "ood" in counts and corrupted.grid.seeds:
        yield f"OOD on {counts['ood']}, {corruptions(corrupted, cell)}"
    attacked = results.having(cell, f"evaluation/{BASE}/adversarial.json")
    attacks = attacked.adversarial(cell, BASE) if attacked.grid.seeds else {}
    if "pgd" in counts and "pgd" in attacks:
        pgd = attacks["pgd"]
        yield (
            f"PGD-{pgd['steps']} on {counts['pgd']} (Linf, eps {pgd['eps']:.4g}, step {pgd['step']:.4g}, worst of"
            f" {pgd['restarts']})"
        )
    if "autoattack" in counts and "autoattack" in attacks:
        yield f"AutoAttack, {attacks['autoattack']['version']} version, on the first {counts['autoattack']}"


def corruptions(results: Results, cell: Cell) -> str:
    """Say which corrupted images the base of a cell was evaluated on, and where they are from."""
    ood = results.ood(cell, BASE)
    levels = sorted(ood["severity"].unique())
    severities = f"{len(levels)} severities" if len(levels) > 1 else f"severity {levels[0]}"
    return f"mean of {ood['corruption'].nunique()} corruptions × {severities}, {' and '.join(ood['source'].unique())}"


def criticality(results: Results, cell: Cell) -> str:
    """How the criticality of a cell was measured."""
    settings = results.criticality_settings(cell)
    measure, attack = settings["criticality"], settings["attack"]
    which = "all images" if measure["images"] == "all" else f"{measure['images']} images"
    on_test = " These are test data, as in the paper." if measure["split"] == "test" else ""
    return (
        f"{name_of(cell)}: {SEARCHES[measure['method']]}, weights moved by at most {measure['epsilon']:g} of their"
        f" {'norm' if measure['norm'] == 'l2' else 'largest entry'}, on PGD-{attack['steps']} examples"
        f" (eps {attack['eps']:.4g}) of {which} of the {measure['split']} split; ascent in {measure['precision']}.{on_test}"
    )


def selected_on_test(results: Results) -> bool:
    """Say whether any α was chosen on test data."""
    return any(
        choice["selection"] == "test"
        for cell, scope in product(cells(results.grid), results.grid.scopes)
        for choice in results.having(cell, f"{scope}/selection.json").selections(cell, scope)
    )


def protocol(results: Results) -> str | None:
    """Name the protocol that the artifacts were made by, if α was chosen as that does; and where they depart from it."""
    if not selected_on_test(results):
        return None
    departures: dict[str, None] = {}
    for cell in cells(results.grid):
        wanted = _leaves(PROTOCOLS["paper"].settings_for(cell.dataset))
        for settings in _settings(results, cell):
            for key, value in _leaves(settings).items():
                if key in wanted and not _equal(value, wanted[key]):
                    departures[f"{key} {_short(value)} (paper: {_short(wanted[key])}; {cell.dataset})"] = None
    told = f", but for {listed(departures)}" if departures else ""
    return (
        f"Protocol: the paper's{told}. Epochs are chosen on images cut from the training split, which the paper trained on"
        " and chose by test images."
    )


def _settings(results: Results, cell: Cell) -> Iterator[Mapping[str, Any]]:
    """Settings of the stages of a cell after training, those that are there."""
    there = results.having(cell, "criticality.csv")
    if there.grid.seeds:
        yield there.criticality_settings(cell)
    for scope in results.grid.scopes:
        yield from results.having(cell, f"{scope}/finetuned.safetensors").finetune_settings(cell, scope)
        for choice in results.having(cell, f"{scope}/selection.json").selections(cell, scope):
            yield choice["provenance"]["settings"]
    for metric in ("std", "ood", "pgd"):
        found = results.outcomes(cell, BASE, metric)
        yield from found.settings.values() if found else ()


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _equal(value: Any, wanted: Any) -> bool:
    return (
        list(value) == list(wanted)
        if isinstance(value, list) and isinstance(wanted, (list, tuple))
        else value == wanted
    )


def _short(value: object) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else listed(value)
        if isinstance(value, (list, tuple))
        else str(value)
    )
