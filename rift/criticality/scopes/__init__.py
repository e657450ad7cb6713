"""Scopes by name: what is trained after the base, and how.

To add one, write a file here, add a line to ``SCOPES``, and add its name to
``rift.config.names.NamedScope``. A scope that reads settings beside ``finetune`` and ``augment``
also lists their sections in ``rift.config.finetuning.SECTIONS_OF_SCOPES``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from rift.config import NamedScope
from rift.criticality.rows import Choose
from rift.criticality.scopes.all_layers import all_layers
from rift.criticality.scopes.last_layer import last_layer
from rift.criticality.scopes.least_critical import least_critical
from rift.criticality.scopes.mixed_training import continue_on_both
from rift.criticality.scopes.more_training import continue_training
from rift.criticality.scopes.most_critical import most_critical
from rift.criticality.scopes.norms import scales_and_biases
from rift.criticality.scopes.statistics import no_module, no_parameter, recompute
from rift.finetuning import Tuning, on_clean_images, parameters_of
from rift.training.history import Trained


@dataclass(frozen=True)
class ScopeKind:
    """A scope: what is trained, and how.

    Attributes:
        modules: function (table, candidates) → names of modules. ``candidates`` are the rows of the
            criticality table that the settings allow.
        parameters: function (model, names of modules) → parameters of the model that are trained.
        train: function (model, parameters, tuning) → result. It may change the model, and decides
            whether the running statistics of batch norm move.
    """

    modules: Choose
    parameters: Callable[[nn.Module, Sequence[str]], Sequence[nn.Parameter]] = parameters_of
    train: Callable[[nn.Module, Sequence[nn.Parameter], Tuning], Trained] = on_clean_images


SCOPES: dict[NamedScope, ScopeKind] = {
    "rift": ScopeKind(least_critical(1)),
    "robust-critical": ScopeKind(most_critical),
    "all-layers": ScopeKind(all_layers),
    "last-layer": ScopeKind(last_layer),
    "top2": ScopeKind(least_critical(2)),
    "top3": ScopeKind(least_critical(3)),
    "top5": ScopeKind(least_critical(5)),
    "rift-frozen": ScopeKind(
        least_critical(1), train=partial(on_clean_images, batch_norm="frozen")
    ),
    "norms": ScopeKind(all_layers, scales_and_biases),
    "statistics": ScopeKind(no_module, no_parameter, recompute),
    "statistics-attacked": ScopeKind(no_module, no_parameter, partial(recompute, attacked=True)),
    "more-training": ScopeKind(all_layers, train=continue_training),
    "mixed-training": ScopeKind(all_layers, train=continue_on_both),
    "earn-then-spend": ScopeKind(all_layers),
    "rift-then-spend": ScopeKind(all_layers),
}
