"""State dicts: copies, and selection of the entries without the normalisation."""

from collections.abc import Mapping

from torch import Tensor, nn

from rift.models.requirements import unwrapped

NORMALISATION = "normalize."
"""Prefix of the entries that ``rift.models.normalisation`` adds to a state dict."""


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a detached copy of the state dict, which later training steps do not change.

    Its names are those of the network inside ``torch.compile`` or ``DataParallel``.
    """
    state = unwrapped(model).state_dict()
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def without_normalisation(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a state dict that do not belong to the normalisation."""
    return {name: value for name, value in state.items() if not name.startswith(NORMALISATION)}
