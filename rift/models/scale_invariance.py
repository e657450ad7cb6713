"""Weights whose scale batch norm cancels."""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rift.models.modes import eager, inference
from rift.models.requirements import PROBED
from rift.seeds import global_numbers_kept


def scale_invariant_weights(model: nn.Module, images: Tensor) -> list[nn.Parameter]:
    """Return the weights of all layers whose output goes into batch norm, and nowhere else.

    These are convolutions and linear layers; their biases, and weights that are computed from
    others (weight norm), are not included. Batch norm that normalises by its batch cancels the
    scale of such a weight: the loss does not change with it, and the norm of the gradient is
    inversely proportional to that of the weight. The layers are found in the graph of a pass, so
    that their names do not matter. A layer whose output is also added to another one, as in a
    pre-activation ResNet, is not included.

    Args:
        model: network; its modes and random numbers do not change.
        images: a few images, float32 in [0, 1], N×C×H×W.

    Returns:
        Weights in the order of the pass, each of them once; none without batch norm.
    """
    outputs: list[tuple[Tensor, nn.Module]] = []
    handles = [
        module.register_forward_hook(
            lambda module, _inputs, output: outputs.append((output, module))
        )
        for module in model.modules()
        if isinstance(module, _ConvNd | nn.Linear)
    ]
    try:
        # Outputs have a graph because the images need a gradient; the weights do not.
        start = images[:PROBED].detach().clone().requires_grad_()
        with inference(model), torch.enable_grad(), eager(model), global_numbers_kept(start.device):
            users = _users(model(start))
    finally:
        for handle in handles:
            handle.remove()
    found: dict[nn.Parameter, None] = {}
    for output, module in outputs:
        weight = dict(module.named_parameters(recurse=False)).get("weight")
        readers = users.get(output.grad_fn, [])
        if weight is not None and readers and all("BatchNorm" in name for name in readers):
            found[weight] = None
    return list(found)


def _users(logits: Tensor) -> dict[object, list[str]]:
    """Return the names of the operations that read the result of each operation of a graph."""
    users: dict[object, list[str]] = {}
    waiting = [] if logits.grad_fn is None else [logits.grad_fn]
    while waiting:
        operation = waiting.pop()
        for source, _ in operation.next_functions:
            if source is None:  # a weight, or another constant
                continue
            if source not in users:
                waiting.append(source)
            users.setdefault(source, []).append(operation.name())
    return users
