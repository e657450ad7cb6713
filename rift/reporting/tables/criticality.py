"""How critical each module is, and which scopes fine-tuned it."""

from collections.abc import Iterator, Mapping

import pandas as pd

from rift import layout
from rift.config import Grid, Scope
from rift.errors import RiftError
from rift.layout import Cell
from rift.reporting.results import Results, cells
from rift.reporting.tables import notes
from rift.reporting.tables.table import NOT_RUN, Table, spread
from rift.reporting.texts import listed, name_of, seeds_text

RACED = (
    "A race measures a module on more and more images until it surely is not chosen: then its rank"
    " is a rough one, in brackets, and its MRC is not comparable with that of more images. Its MRC"
    " is the mean over all its images; half of them had no part in finding the weight.",
    "Upper estimate: estimated height of the highest local maximum, from searches of a chosen"
    " module with several starts. It is no bound.",
)
# Modules that each scope fine-tuned, by seed.
FineTuned = Mapping[Scope, Mapping[int, list[str]]]


def criticality(results: Results) -> Table:
    """Make the table of the criticality of every module over seeds."""
    grid = results.grid
    measured = {cell: results.with_files(cell, layout.CRITICALITY) for cell in cells(grid)}
    existing = {cell: some for cell, some in measured.items() if some.grid.seeds}
    if not existing:
        raise RiftError(
            f"{results.folder}: criticality was measured for no run of the grid; run rift"
            " criticality first"
        )

    found = {cell: some.criticality(cell) for cell, some in existing.items()}
    raced = any(not table["settled"].all() for table in found.values())
    texts: dict[tuple[str, str], dict[str, str]] = {}
    tables: list[pd.DataFrame] = []
    for cell, some in measured.items():
        if cell not in existing:
            texts[name_of(cell), NOT_RUN] = {}
            continue
        table = found[cell].assign(text=_ranks(found[cell]))
        tables.append(found[cell].assign(**cell._asdict()))
        fine_tuned = {scope: _fine_tuned(some, cell, scope) for scope in grid.scopes}
        for module, rows in table.groupby("module", sort=False):
            texts[name_of(cell), str(module)] = _texts(rows, fine_tuned, grid, raced)

    shown = pd.DataFrame.from_dict(texts, orient="index").fillna(NOT_RUN)
    shown.index = pd.MultiIndex.from_tuples(texts, names=["Base", "Module"])
    return Table(
        "Module robust criticality",
        "Rise of the robust loss (MRC) and drop of the robust accuracy when the weights of one"
        " module are moved adversarially. Modules are in the network's order.",
        shown,
        pd.concat(tables, ignore_index=True),
        [*_notes(grid, measured), *(RACED if raced else [])],
    )


def _texts(rows: pd.DataFrame, fine_tuned: FineTuned, grid: Grid, raced: bool) -> dict[str, str]:
    """Return the texts of one module, with the columns of a race if there was one."""
    return {
        "Parameters": f"{rows['parameters'].iloc[0]:,}",
        "MRC (nats)": spread(rows["mrc"], 3),
        "Standard error": spread(rows["mrc_error"], 3),
        **_of_race(rows, raced),
        "Adv drop (points)": spread(rows["robust_accuracy_drop"], 1),
        "Rank by seed": listed(rows["text"]),
        "Chosen by": listed(_scopes(str(rows["module"].iloc[0]), fine_tuned, grid)),
    }


def _of_race(rows: pd.DataFrame, raced: bool) -> dict[str, str]:
    """Return the texts that only a race makes: images by seed, and the estimated upper side."""
    if not raced:
        return {}
    upper = rows["mrc_upper"].dropna()
    return {
        "Upper estimate": spread(upper, 3) if len(upper) else NOT_RUN,
        "Images by seed": listed(
            "?" if pd.isna(images) else f"{int(images):,}" for images in rows["images"]
        ),
    }


def _ranks(table: pd.DataFrame) -> list[str]:
    """Return the texts of the ranks: rough ones in brackets, tied ones with a sign."""
    first = table["rank"].where(table["settled"]).groupby(table["seed"]).transform("min")
    return [
        f"{rank}{'=' if tied and rank != least else ''}" if settled else f"({rank})"
        for rank, least, tied, settled in zip(
            table["rank"], first, table["tied"], table["settled"], strict=True
        )
    ]


def _fine_tuned(results: Results, cell: Cell, scope: Scope) -> dict[int, list[str]]:
    """Return the modules that a scope fine-tuned, for the seeds that have it."""
    tuned = results.with_fine_tuning(cell, scope)
    return dict(zip(tuned.grid.seeds, tuned.fine_tuned_modules(cell, scope), strict=True))


def _scopes(module: str, fine_tuned: FineTuned, grid: Grid) -> Iterator[str]:
    """Yield the scopes that fine-tuned a module, with the seeds unless these are all."""
    for scope, by_seed in fine_tuned.items():
        seeds = [seed for seed, modules in by_seed.items() if module in modules]
        if seeds:
            yield scope if len(seeds) == len(grid.seeds) else f"{scope} (seed {listed(seeds)})"


def _notes(grid: Grid, measured: Mapping[Cell, Results]) -> list[str]:
    missing: list[str] = []
    for cell, results in measured.items():
        seeds = [seed for seed in grid.seeds if seed not in results.grid.seeds]
        if seeds:
            missing.append(f"{name_of(cell)} ({seeds_text(seeds)})")
    several = f"Mean ± standard deviation over {seeds_text(grid.seeds)}."
    return [
        several if len(grid.seeds) > 1 else f"One seed: {seeds_text(grid.seeds)}.",
        "The standard error shows how far the MRC would vary with other images of the same kind,"
        " for the same moved weights. The gradient method computes it over batches.",
        "Rank 1 is the least critical module. An equals sign (=) marks modules whose MRC is not"
        " distinguishable from that of the first rank without brackets: image by image, the"
        " difference is within 1.96 standard errors.",
        *([f"Not measured yet: {listed(missing)}."] if missing else []),
        *dict.fromkeys(
            notes.criticality(results, cell)
            for cell, results in measured.items()
            if results.grid.seeds
        ),
    ]
