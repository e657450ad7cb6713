"""Accuracies that the RiFT paper prints (Zhu et al., ICCV 2023, tables 1 to 4), from ``published.csv``."""

import functools
from importlib.resources import as_file, files

import pandas as pd

from rift.config import Variant
from rift.reporting.results import Cell, Metric

_METHODS: dict[Variant, str] = {"base": "at"}
_METRICS: dict[Metric, str] = {"pgd": "adv"}  # the paper attacks with PGD-10


def accuracy(cell: Cell, variant: Variant, metric: Metric) -> float | None:
    """Look up an accuracy in percent, the mean of three seeds; None where the paper has none."""
    return _accuracies().get((*cell, _METHODS.get(variant, variant), _METRICS.get(metric, metric)))


@functools.cache
def _accuracies() -> dict[tuple[str, ...], float]:
    with as_file(files("rift.reporting") / "published.csv") as path:
        table = pd.read_csv(path)
    keys = table[["dataset", "architecture", "regime", "method", "metric"]].itertuples(index=False, name=None)
    return dict(zip(keys, table["value"], strict=True))
