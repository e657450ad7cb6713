"""The requirements on a network: what its passes return, and how messages name a violation.

All stages read the output of a network with ``as_logits``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rift.device import to_float32
from rift.errors import RiftError, first_line
from rift.models.modes import inference
from rift.seeds import global_numbers_kept

PROBED = 2
"""Number of images of the pass that checks a network."""


def as_logits(output: object) -> Tensor:
    """Return the output of a network as logits: float32 or longer, N×classes.

    Args:
        output: result of a call of the network.

    Raises:
        RiftError: the output is not one tensor of floating-point numbers, N×classes. Nothing is
            taken out of a dict or tuple: which of its entries attacks and losses use must not
            depend on a guess.
    """
    if isinstance(output, Tensor) and output.ndim == 2 and output.is_floating_point():
        return to_float32(output)
    raise RiftError(
        f"network: returns {_described(output)} instead of logits (floating-point numbers,"
        " N×classes); wrap it in a module whose forward returns the logits alone"
    )


def require_classes(logits: Tensor, highest: int) -> None:
    """Check that a network has a logit for every label.

    Args:
        logits: N×classes.
        highest: largest label.

    Raises:
        RiftError: the network has too few classes.
    """
    classes = logits.shape[1]
    if highest >= classes:
        raise RiftError(
            f"labels: contain {highest}, but the network has {classes} logits, for the labels 0 to"
            f" {classes - 1}; pass a network for at least {highest + 1} classes, or count the"
            " labels from 0"
        )


def as_class_labels(labels: Tensor) -> Tensor:
    """Return integer labels as int64, N.

    Args:
        labels: integers ≥ 0 of any type, N.

    Raises:
        RiftError: the labels are not integers ≥ 0.
    """
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise RiftError(
            f"labels: are {labels.dtype} of shape {tuple(labels.shape)}; pass integers from 0, one"
            " per image"
        )
    if len(labels) and int(labels.min()) < 0:
        raise RiftError(f"labels: contain {int(labels.min())}; they must be integers from 0")
    return labels.to(torch.int64)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside ``torch.compile``, ``DataParallel`` and the like.

    Names of modules and entries of state dicts are those of this network.
    """
    while True:
        if isinstance(model, nn.DataParallel | DistributedDataParallel):
            model = model.module
        elif isinstance(inside := getattr(model, "_orig_mod", None), nn.Module):
            model = inside
        else:
            return model


def check_network(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Check that a network can be attacked, measured and trained, by a pass over a few images.

    The network is in eval mode meanwhile. Random numbers and the network do not change.

    Args:
        model: network, on the device of the images.
        images: float32 in [0, 1], N×C×H×W; only the first few are used.
        labels: N.

    Raises:
        RiftError: the network is scripted, has weights of a short type, cannot process the images,
            returns no logits or logits that are not finite, or has too few classes.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise RiftError(
            "network: contains TorchScript, whose layers cannot be measured or trained one by one;"
            " pass the nn.Module that was scripted"
        )
    weights = [(name, weight) for name, weight in model.named_parameters()]
    others = [(name, weight.dtype) for name, weight in weights if weight.dtype != torch.float32]
    short = [pair for pair in others if pair[1] in (torch.float16, torch.bfloat16)]
    if short:
        raise RiftError(_of_another_type(*short[0]))
    probe = images[:PROBED]
    with inference(model), torch.no_grad(), global_numbers_kept(images.device):
        try:
            output = model(probe)
        except torch.OutOfMemoryError:
            raise
        # A network can raise any exception.
        except Exception as error:
            if others:
                raise RiftError(_of_another_type(*others[0])) from error
            raise RiftError(
                f"network: cannot process images of shape {tuple(probe.shape)}"
                f" ({first_line(error)}); pass images and a network that match, on one device"
            ) from error
    logits = as_logits(output)
    require_classes(logits, int(labels.max()) if len(labels) else 0)
    if len(logits) != len(probe):
        raise RiftError(
            f"network: returns {len(logits)} rows of logits for {len(probe)} images; return one row"
            " per image"
        )
    bad = int((~logits.isfinite()).any(1).sum())
    if bad:
        raise RiftError(not_finite(bad, len(logits)))


def not_finite(bad: int, images: int) -> str:
    """Return the message that a network returns NaN or infinity for some images.

    Args:
        bad: number of these images.
        images: number of all images.
    """
    return (
        f"network: returns logits that are not finite for {bad} of {images} images; train or load"
        " its weights again"
    )


def _of_another_type(name: str, dtype: torch.dtype) -> str:
    return f"network: {name} is {dtype}, but rift needs float32 weights; call float() on it first"


def _described(output: object) -> str:
    """Return type and content of an output of a network, for messages."""
    if isinstance(output, Tensor):
        return f"a tensor of {output.dtype} and shape {tuple(output.shape)}"
    kind = type(output).__name__
    if isinstance(output, Mapping):
        return f"a {kind} with the keys {', '.join(map(str, output)) or 'none'}"
    if isinstance(output, tuple | list):
        return f"a {kind} of {', '.join(type(entry).__name__ for entry in output) or 'nothing'}"
    return f"a {kind}"
