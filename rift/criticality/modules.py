"""The modules that have a criticality."""

from torch import nn


def measured_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return all convolution and linear layers by name, in the network's order.

    torch's own attention has one parameter for the projections to query, key and value. The
    attention module represents it under its own name, before its ``out_proj``. If key or value
    differ in width from the query, there are three parameters instead, and these are not measured.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        or (isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None)
    }


def measured_weight(module: nn.Module) -> nn.Parameter:
    """Return the weight of a measured module, or ``in_proj_weight`` of torch's attention."""
    return module.get_parameter(
        "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
    )
