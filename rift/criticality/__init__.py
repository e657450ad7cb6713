"""Module robust criticality (MRC), and the scopes that it decides."""

from rift.criticality.choice import candidates_of, modules_of, train_scope
from rift.criticality.measure import (
    adversarial_examples,
    measure,
    module_robust_criticality,
    shard,
)
from rift.criticality.modules import (
    Measurable,
    measurable_modules,
    measured_modules,
    measured_weight,
)
from rift.criticality.rows import WHOLE_NETWORK
from rift.criticality.table import Measurement, ModuleCriticality, Place, criticality_table, join

__all__ = [
    "WHOLE_NETWORK",
    "Measurable",
    "Measurement",
    "ModuleCriticality",
    "Place",
    "adversarial_examples",
    "candidates_of",
    "criticality_table",
    "join",
    "measurable_modules",
    "measure",
    "measured_modules",
    "measured_weight",
    "module_robust_criticality",
    "modules_of",
    "shard",
    "train_scope",
]
