"""The classifier of a network: the layer that returns the logits."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rift.errors import RiftError
from rift.models.modes import eager, inference
from rift.models.requirements import PROBED, as_logits
from rift.seeds import global_numbers_kept, seed_torch


def classifier_of(model: nn.Module, images: Tensor) -> str:
    """Return the name of the layer whose output is the logits.

    The layer is found by a pass, so its name does not matter (``fc``, ``linear``, ``head.fc`` …).
    It is a linear layer, or a 1×1 convolution of pooled features, as in some networks of timm.

    Args:
        model: network; its modes and random numbers do not change.
        images: a few images, float32 in [0, 1], N×C×H×W.

    Raises:
        RiftError: no layer returns the logits, for example because they are the mean of two layers.
    """
    outputs: dict[str, Tensor] = {}

    def remember(name: str, output: Tensor) -> None:
        outputs.pop(name, None)  # a layer that is used twice counts by its last use
        outputs[name] = output

    handles = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: remember(name, output)
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or _is_pointwise(module)
    ]
    try:
        with inference(model), torch.no_grad(), eager(model), global_numbers_kept(images.device):
            logits = as_logits(model(images[:PROBED]))
    finally:
        for handle in handles:
            handle.remove()
    for name, output in reversed(outputs.items()):
        flat = output.flatten(1)
        if flat.shape == logits.shape and torch.equal(flat.to(logits.dtype), logits):
            return name
    raise RiftError(
        "network: no linear layer returns its logits, so a transfer cannot give it a new last"
        " layer; choose an architecture that ends with one linear layer"
    )


def renew_classifier(model: nn.Module, name: str, classes: int, *, seed: int) -> None:
    """Replace the classifier by a new one with the default random weights of its type.

    Args:
        model: network, changed in place.
        name: name of the classifier.
        classes: number of classes of the new one.
        seed: seed of the new weights.

    Raises:
        RiftError: the weight of the classifier is computed from other weights (weight norm).
    """
    old = model.get_submodule(name)
    if parametrize.is_parametrized(old) or "weight" not in dict(old.named_parameters()):
        raise RiftError(
            f"network: the weight of its last layer {name} is computed from others (weight norm or"
            " the like), so a transfer cannot make a new one; choose an architecture whose last"
            " layer is an ordinary linear layer"
        )
    parent, _, own = name.rpartition(".")
    with global_numbers_kept(torch.device("cpu")):
        seed_torch(seed, "new classifier", torch.device("cpu"))
        new: nn.Module
        if isinstance(old, nn.Conv2d):
            new = nn.Conv2d(old.in_channels, classes, 1, bias=old.bias is not None)
        else:
            assert isinstance(old, nn.Linear)
            new = nn.Linear(old.in_features, classes, bias=old.bias is not None)
    setattr(model.get_submodule(parent), own, new.to(next(old.parameters()).device))


def _is_pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
