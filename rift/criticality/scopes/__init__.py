"""Scopes by name: which modules of a network are fine-tuned.

A scope is a function (table, candidates) → module names. ``candidates`` are the rows of the
criticality table that the settings allow. To add one, write a file here, add a line to ``SCOPES``,
and add its name to ``rift.config.names.NamedScope``.
"""

from rift.config import NamedScope
from rift.criticality.rows import Choose
from rift.criticality.scopes.all_layers import all_layers
from rift.criticality.scopes.last_layer import last_layer
from rift.criticality.scopes.least_critical import least_critical
from rift.criticality.scopes.most_critical import most_critical

SCOPES: dict[NamedScope, Choose] = {
    "rift": least_critical(1),
    "robust-critical": most_critical,
    "all-layers": all_layers,
    "last-layer": last_layer,
    "top2": least_critical(2),
    "top3": least_critical(3),
    "top5": least_critical(5),
}
