"""The modules whose criticality is measured."""

from torch import nn


def measured_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return every convolution and linear layer by its name, in the network's order.

    torch's own attention holds the projections to query, key and value as a bare parameter: it stands for them under its own
    name, before its ``out_proj``. (Where key or value differ in width from the query, it holds three, which are not measured.)
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        or (isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None)
    }


def measured_weight(module: nn.Module) -> nn.Parameter:
    """Return the weight of a measured module."""
    return module.get_parameter(
        "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
    )
