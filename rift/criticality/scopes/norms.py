"""Scale and shift of normalisation layers, and all biases (scope ``norms``)."""

from collections.abc import Sequence

from torch import nn

from rift.errors import RiftError

NORMS = (
    nn.BatchNorm1d
    | nn.BatchNorm2d
    | nn.BatchNorm3d
    | nn.SyncBatchNorm
    | nn.InstanceNorm1d
    | nn.InstanceNorm2d
    | nn.InstanceNorm3d
    | nn.LayerNorm
    | nn.GroupNorm
    | nn.RMSNorm
)


def scales_and_biases(model: nn.Module, modules: Sequence[str]) -> list[nn.Parameter]:
    """Return the scale and shift of every normalisation layer, and every bias, each once.

    A bias is a parameter whose own name is ``bias`` or ends in ``_bias``, such as ``in_proj_bias``
    of torch's attention.

    Args:
        model: network.
        modules: names of the modules to search, submodules included.

    Raises:
        RiftError: there are neither biases nor normalisation layers with a scale.
    """
    found: dict[nn.Parameter, None] = {}
    for module in (each for name in modules for each in model.get_submodule(name).modules()):
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, NORMS) or name == "bias" or name.endswith("_bias"):
                found[parameter] = None
    if not found:
        raise RiftError(
            "scope 'norms': the network has no bias, and no normalisation layer with scale and"
            " shift; remove the scope"
        )
    return list(found)
