"""Notes below a table on how the networks were trained here."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, cast

from rift import layout
from rift.config import MethodName, RegimeName, recipe_of
from rift.config.transfer import SECTIONS_OF_METHODS
from rift.layout import Cell
from rift.reporting.results import Results, cells
from rift.reporting.tables import notes
from rift.reporting.texts import listed


def how_trained(results: Results) -> Iterator[str]:
    """Yield how the bases were trained here: one note per recipe, with its data sets."""
    grid = results.grid
    for architecture, regime in product(grid.architectures, grid.regimes):
        datasets: dict[str, dict[str, None]] = {}
        for dataset in grid.datasets:
            cell = Cell(dataset, architecture, regime)
            for source in results.with_files(cell, layout.BASE).base_sources(cell):
                if source.get("stage") == "train":
                    recipe = _recipe(source["settings"], regime)
                    datasets.setdefault(recipe, {})[dataset] = None
        for recipe, names in datasets.items():
            yield f"{architecture}, {regime} ({listed(names)}): {recipe}."
    yield "The paper does not report its values of beta and gamma."


def how_transferred(results: Results) -> Iterator[str]:
    """Yield how the transfers were trained here: one note per recipe, with its targets."""
    targets: dict[tuple[str, str], dict[str, None]] = {}
    for cell in cells(results.grid):
        if cell.kind == "transfers":
            for source in results.with_files(cell, layout.BASE).base_sources(cell):
                if source.get("stage") == "transfer":
                    recipe = _transfer_recipe(source["settings"], cell.regime)
                    targets.setdefault((cell.regime, recipe), {})[cell.target] = None
    for (method, recipe), names in targets.items():
        yield f"{method} ({listed(names)}): {recipe}."


def _transfer_recipe(settings: Mapping[str, Any], method: str) -> str:
    """Return the main settings of a transfer."""
    chosen = settings["transfer"]
    inner = {**settings["attack"], **{k: v for k, v in settings["inner"].items() if v}}
    images = "all images" if chosen["images"] == "all" else f"the first {chosen['images']} images"
    parts = [f"{chosen['epochs']} epochs of {images}", _rate(chosen)]
    if chosen["head_rate"] != 1:
        parts.append(f"{chosen['head_rate']:g} times that for the last layer")
    parts.append(f"weight decay {chosen['weight_decay']:g}")
    parts.append(f"{_attack_name(inner)} ({notes.threat(inner)})")
    for section in SECTIONS_OF_METHODS.get(cast("MethodName", method), ()):
        parts += [
            f"{section} {name} {value if isinstance(value, str) else f'{value:g}'}"
            for name, value in settings[section].items()
        ]
    if chosen["init_head"] != "random":
        parts.append(f"the last layer first by a {chosen['init_head']}")
    if chosen.get("enlarge"):
        parts.append(f"images enlarged to {chosen['enlarge']} pixels by the network")
    return f"trained for {', '.join(parts)}"


def _rate(train: Mapping[str, Any]) -> str:
    """Return the learning rate and how it falls."""
    schedule = f", {train['schedule']}"
    if train["schedule"] == "step":
        schedule = f" ÷10 after {listed(train['milestones'])}" if train["milestones"] else schedule
    return f"learning rate {train['learning_rate']:g}{schedule}"


def _attack_name(inner: Mapping[str, Any]) -> str:
    """Return the name of an inner attack."""
    if inner["method"] != "pgd":
        return str(inner["method"])
    return f"PGD-{inner['steps']} from a {inner['start']} start"


def _recipe(settings: Mapping[str, Any], regime: RegimeName) -> str:
    """Return the main settings of training."""
    train = settings["train"]
    given = {key: value for key, value in settings["inner"].items() if value}
    inner = {**settings["attack"], **given}
    parts = [
        f"{train['epochs']} epochs",
        _rate(train),
        f"weight decay {train['weight_decay']:g}",
    ]
    if regime != "standard":
        parts.append(f"{_attack_name(inner)} ({notes.threat(inner)})")
    for section in recipe_of(regime).sections:
        parts += [f"{section} {name} {value:g}" for name, value in settings[section].items()]
    if train["averaging"]:
        parts.append(f"weights averaged ({train['averaging']:g})")
    if train["init"]:
        parts.append(f"from {train['init']}")
    return f"trained for {', '.join(parts)}"
