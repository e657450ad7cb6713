"""Differences between two variants as rows of numbers."""

import math
from collections.abc import Iterable

import pandas as pd

from rift.reporting.outcomes import Outcomes
from rift.reporting.tables.table import Row, is_distinguishable
from rift.statistics import exact_test, is_binary, paired_delta


def difference(reference: Outcomes, variant: Outcomes) -> Row:
    """Return the difference between two variants over the seeds that both have.

    The row is empty if they have no seed in common.

    Raises:
        RiftError: they are outcomes of different images.
    """
    before, after = reference.paired(variant)
    if not len(before):
        return {}
    delta = paired_delta(before, after)
    row: Row = {f"delta_{name}": value for name, value in delta._asdict().items()}

    p = math.nan
    if is_binary(before) and is_binary(after):
        test = exact_test(before, after)
        p = test.p
        row |= {"p": p, "gained": test.gained, "lost": test.lost}
        shared = [seed for seed in reference.seeds if seed in variant.scores]
        row |= {f"p_seed{seed}": value for seed, value in zip(shared, test.by_seed, strict=True)}
    return {**row, "distinguishable": is_distinguishable(delta, p)}


def numbers(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as a frame, with the p of single seeds last."""
    table = pd.DataFrame(rows)
    by_seed = [name for name in table if str(name).startswith("p_seed")]
    by_seed.sort(key=lambda name: int(str(name).removeprefix("p_seed")))
    return table[[*(name for name in table if name not in by_seed), *by_seed]]
