"""Published accuracies, from ``paper.csv``.

Those of runs are from the RiFT paper (Zhu et al., ICCV 2023, tables 1 to 4). Those of transfers are
from AutoLoRa (Xu et al., ICLR 2024, table 2), which ran TWINS and its baseline again.
"""

import functools
from importlib.resources import as_file, files

import pandas as pd

from rift.config import Variant
from rift.layout import Cell
from rift.reporting.outcomes import Metric

_METHODS: dict[Variant, str] = {"base": "at"}
_METRICS: dict[Metric, str] = {"pgd": "adv"}  # both papers attack with PGD-10


def accuracy(cell: Cell, variant: Variant, metric: Metric) -> float | None:
    """Return a published accuracy in percent, or None if there is none.

    Those of runs are means of three seeds.
    """
    method = _METHODS.get(variant, variant)
    return _accuracies().get((*cell, method, _METRICS.get(metric, metric)))


@functools.cache
def _accuracies() -> dict[tuple[str, ...], float]:
    with as_file(files("rift.reporting") / "paper.csv") as path:
        table = pd.read_csv(path)
    columns = ["dataset", "architecture", "regime", "method", "metric"]
    keys = table[columns].itertuples(index=False, name=None)
    return dict(zip(keys, table["value"], strict=True))
