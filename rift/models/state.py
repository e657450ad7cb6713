"""State dicts: copies, and the part that is the network's own."""

from collections.abc import Mapping

from torch import Tensor, nn

NORMALISATION = "normalize."
"""What the names of the normalisation begin with; ``rift.models.normalisation`` adds them."""


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state dict that later steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def without_normalisation(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the network itself, under the names that it has in the field."""
    return {name: value for name, value in state.items() if not name.startswith(NORMALISATION)}
