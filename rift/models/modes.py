"""Context managers that change the mode of a model and restore it afterwards."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def trainable(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Enable gradients for the given parameters of a model, and disable them for all others.

    Every ``requires_grad`` is restored on exit.

    Args:
        model: model, changed in place.
        parameters: parameters that need gradients.
    """
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, mode in before.items():
            parameter.requires_grad_(mode)


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Set a model to eval mode, and disable gradients for its parameters.

    Batch norm uses its running statistics and does not update them. Gradients with respect to the
    input remain available. The mode of every module and every ``requires_grad`` are restored on
    exit.
    """
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with trainable(model, []):
            yield
    finally:
        for module, mode in before.items():
            module.training = mode


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Restore weights, statistics and modes of a model at the end, and drop its gradients."""
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        model.load_state_dict(state)
        model.zero_grad()
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Compute every submodule by a call of its own, whose results can be kept and replayed.

    Compiled code and the fused path of torch's transformer layers skip these calls.
    """
    compiled = {module: module._compiled_call_impl for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, call in compiled.items():
            module._compiled_call_impl = call
