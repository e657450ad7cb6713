"""The base and the improved network on the same images: accuracies, changes, intervals, tests."""

import math
from typing import Any

import pandas as pd

from rift.reporting.tables.table import (
    DELTA,
    Table,
    accuracy_text,
    delta_text,
    is_distinguishable,
    p_text,
)
from rift.statistics import Delta, accuracy, exact_test, paired_delta

NAMES = {"clean": "clean", "pgd": "PGD", "autoattack": "AutoAttack"}
TEST, SELECTION = "test", "selection"


def compared(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return the change in every metric, from the outcomes of both networks on the same images.

    Args:
        before: outcomes of the base, from ``rift.evaluate``.
        after: outcomes of the improved network, likewise.

    Returns:
        One row per metric, in percent and points: accuracies ``before`` and ``after`` with Wilson's
        95% intervals, their ``change`` with its paired-bootstrap interval, and the ``p`` of
        McNemar's exact test.
    """
    rows: list[dict[str, Any]] = []
    for metric in before:
        old, new = (frame[[metric]].to_numpy().T for frame in (before, after))
        delta = paired_delta(old * 1.0, new * 1.0)
        row: dict[str, Any] = {"metric": NAMES[str(metric)], "split": TEST, "images": len(before)}
        for name, scores in (("before", old), ("after", new)):
            found = accuracy(scores * 1.0)
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        row |= {"change": delta.mean, "low": delta.low, "high": delta.high}
        rows.append({**row, "p": exact_test(old * 1.0, new * 1.0).p})
    return pd.DataFrame(rows)


def selected(points: pd.DataFrame, alpha: float, images: int) -> pd.DataFrame:
    """Return the change on the images on which α was selected.

    It has no interval and no test: of many points, the best one was taken.

    Args:
        points: the sweep.
        alpha: the selected point.
        images: number of images.
    """
    base, chosen = (points[points["alpha"] == place].iloc[0] for place in (0, alpha))
    unknown = dict.fromkeys(("low", "high", "p"), math.nan)
    return pd.DataFrame(
        [
            {
                "metric": NAMES[metric],
                "split": SELECTION,
                "images": images,
                "before": base[column],
                "after": chosen[column],
                "change": chosen[column] - base[column],
                **unknown,
            }
            for metric, column in (("clean", "standard_accuracy"), ("pgd", "adversarial_accuracy"))
        ]
    )


def as_table(rows: pd.DataFrame, caption: str) -> Table:
    """Return a comparison as a table for readers."""
    records = [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]
    shown = pd.DataFrame(
        [
            {
                "base": _accuracy(row, "before"),
                "RiFT": _accuracy(row, "after"),
                DELTA: _change(row),
                "p": p_text(row["p"]),
            }
            for row in records
        ],
        index=pd.Index(rows["metric"], name="accuracy"),
    )
    count, split = f"{records[0]['images']:,}", records[0]["split"]
    if split == TEST:
        notes = [
            f"Accuracy in percent on {count} test images, with Wilson's 95% interval.",
            f"{DELTA}: change in points, with its 95% interval (paired bootstrap over images). An"
            " asterisk marks a change that is more than chance. p: McNemar's exact test.",
        ]
    else:
        notes = [
            f"Accuracy in percent on the {count} validation images on which α was selected. On"
            " other images, gains are smaller as a rule: evaluate both networks on test images.",
        ]
    return Table("Base and RiFT", caption, shown, rows, notes)


def _accuracy(row: dict[str, Any], name: str) -> str:
    ends = {end: row.get(f"{name}_{end}", math.nan) for end in ("low", "high")}
    return accuracy_text({"mean": row[name], **ends}, seeds=1)


def _change(row: dict[str, Any]) -> str:
    delta = Delta(row["change"], row["low"], row["high"])
    values = {f"delta_{name}": value for name, value in delta._asdict().items()}
    return delta_text({**values, "distinguishable": is_distinguishable(delta, row["p"])})
