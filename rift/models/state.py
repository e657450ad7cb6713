"""Copies of networks and state dicts, and selection of the entries without the normalisation."""

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from rift.errors import RiftError, first_line
from rift.models.requirements import unwrapped

NORMALISATION = "normalize."
"""Prefix of the entries that ``rift.models.normalisation`` adds to a state dict."""


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a detached copy of the state dict, which later training steps do not change.

    Its names are those of the network inside ``torch.compile`` or ``DataParallel``.
    """
    state = unwrapped(model).state_dict()
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a network, with its hooks and modes, and without gradients.

    Raises:
        RiftError: the network cannot be copied.
    """
    # deepcopy refuses the tensors that old hooks store with their history.
    memo = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(model, memo)
    # A network can raise any exception when it is copied.
    except Exception as error:
        raise RiftError(f"network: cannot be copied ({first_line(error)})") from error


def without_normalisation(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a state dict that do not belong to the normalisation."""
    return {name: value for name, value in state.items() if not name.startswith(NORMALISATION)}
