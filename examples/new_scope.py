"""A scope of your own: fine-tune the module with the most weights, instead of RiFT's choice.

A scope is a function (table, candidates) → names of modules. In Python, pass the names. To choose
it by name in experiment files, docs/extending.md shows where the file, its line and its name
belong.
"""

from robust_digits import ATTACK, AUGMENT, images, robust_network

import rift
from rift.criticality.rows import Table


def largest(_table: Table, candidates: Table) -> list[str]:
    """Return the candidate with the most weights."""
    return [max(candidates, key=lambda row: row.parameters).module]


def least_critical(_table: Table, candidates: Table) -> list[str]:
    """Return the candidate of lowest MRC, as the scope rift does."""
    return [min(candidates, key=lambda row: row.rank).module]


model = robust_network()
train, validation, test = images()
shared = {"progress": False}
table = rift.mrc(model, train, attack=ATTACK, criticality={"images": 200}, **shared)
rows = list(table.itertuples())
for scope in (least_critical, largest):
    names = scope(rows, rows)
    tuned = rift.fine_tune(
        model,
        train,
        validation,
        names,
        finetune={"epochs": 4, "learning_rate": 0.01},
        augment=AUGMENT,
        **shared,
    )
    points = rift.sweep(
        model,
        tuned,
        validation,
        attack=ATTACK,
        interpolate={"alphas": (0, 0.5, 1), "restarts": 1},
        **shared,
    )
    alpha = rift.select(points)
    better = rift.interpolate(model, tuned, alpha)
    accuracy = (
        100 * rift.evaluate(better, test, attack=ATTACK, pgd={"restarts": 1}, **shared).mean()
    )
    print(
        f"{scope.__name__:<15} {names[0]:<20} alpha {alpha:.1f}"
        f"   clean {accuracy['clean']:5.1f}%   PGD {accuracy['pgd']:5.1f}%"
    )
