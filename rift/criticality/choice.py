"""Selection of a scope and its modules, and their training."""

from collections.abc import Sequence

from torch import nn

from rift.config import Finetune, Scope
from rift.criticality.rows import Table, allowed
from rift.criticality.scopes import SCOPES, ScopeKind
from rift.errors import RiftError
from rift.finetuning import Tuning
from rift.models.modes import restored
from rift.models.requirements import unwrapped
from rift.training.history import Trained


def candidates_of(table: Table, settings: Finetune) -> Table:
    """Return the rows from which the least critical modules are chosen.

    Args:
        table: criticality table in the network's order.
        settings: ``least_share`` is the smallest share of all parameters that a row may have;
            ``part`` is the allowed range of rows, from the first (0) to the last (1).
    """
    sizes = [row.parameters for row in table]
    return [table[place] for place in allowed(sizes, settings.least_share, settings.part)]


def modules_of(scope: Scope, table: Table, settings: Finetune | None = None) -> list[str]:
    """Return the names of the modules of a scope.

    An empty name is the whole network. Without a name, the scope trains no weight.

    Args:
        scope: key of ``SCOPES``, or ``module-NAME``.
        table: criticality table in the network's order.
        settings: restrictions on the least critical modules; None allows all modules.

    Raises:
        RiftError: the scope does not exist, the table does not contain its module, or the settings
            allow too few modules.
    """
    return _kind_of(scope).modules(table, candidates_of(table, settings or Finetune()))


def train_scope(scope: Scope, model: nn.Module, modules: Sequence[str], tuning: Tuning) -> Trained:
    """Train modules of a network in the way of a scope, and return the result.

    Args:
        scope: key of ``SCOPES``, or ``module-NAME``.
        model: base; it is restored, and the result contains the trained weights.
        modules: names of the scope's modules, from ``modules_of``.
        tuning: images and settings.

    Raises:
        RiftError: the scope does not exist or cannot be trained on this network, or the loss is no
            longer finite.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    kind, model = _kind_of(scope), unwrapped(model)
    parameters = kind.parameters(model, modules)
    with restored(model):
        return kind.train(model, parameters, tuning)


def _kind_of(scope: Scope) -> ScopeKind:
    """Return the entry of a scope; ``module-NAME`` has one, too.

    Raises:
        RiftError: the scope does not exist.
    """
    for name, kind in SCOPES.items():
        if name == scope:
            return kind
    module = scope.removeprefix("module-")
    if module == scope:
        raise RiftError(
            f"scope {scope!r} is not available; available: {', '.join(SCOPES)}, module-NAME"
        )

    def only_this(table: Table, _candidates: Table) -> list[str]:
        known = [row.module for row in table]
        if module not in known:
            raise RiftError(
                f"scope {scope!r}: the network has no such module; choose one of {', '.join(known)}"
            )
        return [module]

    return ScopeKind(only_this)
