"""Two wings of batch norm over shared weights (TWINS, Liu et al. 2023, section 3).

A network with two wings has a pair of batch norms in place of each. All other weights belong to
both wings. The frozen wing normalises by the running statistics of the source, and trains its own
scale and shift. The adaptive wing is ordinary batch norm. Every pass uses one wing: the adaptive
one, except within ``frozen_wing``.
"""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rift.errors import RiftError, first_line
from rift.models.modes import eager, inference
from rift.models.requirements import PROBED
from rift.seeds import global_numbers_kept


class TwoWingNorm(nn.Module):
    """A pair of batch norms with equal scale, shift and running statistics at the start.

    Args:
        norm: batch norm of the source; it becomes that of the adaptive wing.

    Attributes:
        uses_frozen: whether the next pass goes through the frozen wing.
    """

    adaptive: nn.Module
    frozen: nn.Module

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        # The copy keeps what subclasses do after they normalise, such as the activations of timm.
        self.frozen = copy.deepcopy(norm).eval()
        self.adaptive = norm
        self.training = norm.training
        self.uses_frozen = False

    def train(self, mode: bool = True) -> "TwoWingNorm":
        """Set the mode of the adaptive wing; the frozen wing always stays in eval mode."""
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, values: Tensor) -> Tensor:
        wing = self.frozen if self.uses_frozen else self.adaptive
        normalised: Tensor = wing(values)
        return normalised


def split_wings(model: nn.Module) -> nn.Module:
    """Replace every batch norm by a pair, and return the model, which is changed in place.

    Both wings give the logits of the model in eval mode until one of them changes.

    Args:
        model: network with batch norm.

    Raises:
        RiftError: the network has no batch norm, or a batch norm without running statistics, which
            the frozen wing needs.
    """
    norms = {
        name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)
    }
    if not norms:
        raise RiftError(
            "network: has no batch norm, and the wings of TWINS differ in nothing else; choose the"
            " method at or trades, or an architecture with batch norm"
        )
    for name, norm in norms.items():
        if norm.running_mean is None or norm.running_var is None:
            raise RiftError(
                f"network: batch norm {name} keeps no running statistics, by which the frozen wing"
                " of TWINS normalises; build the network with track_running_stats=True, or choose"
                " the method at or trades"
            )
    _replace(model, {norm: TwoWingNorm(norm) for norm in norms.values()})
    return model


def check_wings(model: nn.Module, images: Tensor) -> None:
    """Check that passes of a network can go through two wings, by two passes over a few images.

    Args:
        model: plain network with batch norm; afterwards it is as before.
        images: a few images, float32 in [0, 1], N×C×H×W.

    Raises:
        RiftError: as ``split_wings``; or the network uses a batch norm otherwise than by calling
            the module that its name leads to.
    """
    own_way = (
        "the network does not call it as a module by its name, so it cannot have two wings; choose"
        " the method at or trades, or call every batch norm as self.NAME(values)"
    )
    called = Counter[str]()
    split_wings(model)
    wings = {
        name: (module.adaptive, module.frozen)
        for name, module in model.named_modules()
        if isinstance(module, TwoWingNorm)
    }
    # Only the frozen members may be called here.
    handles = [
        adaptive.register_forward_hook(lambda *_, name=name: called.update([name]))
        for name, (adaptive, _) in wings.items()
    ]
    try:
        numbers = global_numbers_kept(images.device)
        with inference(model), torch.no_grad(), eager(model), numbers, frozen_wing(model):
            model(images[:PROBED])
    except (AttributeError, TypeError) as error:
        raise RiftError(f"network: batch norm ({first_line(error)}): {own_way}") from error
    finally:
        for handle in handles:
            handle.remove()
        join_wings(model)
    if called:
        raise RiftError(f"network: batch norm {min(called)}: {own_way}")


def join_wings(model: nn.Module) -> nn.Module:
    """Replace every pair by the adaptive wing, and return the model, which is changed in place."""
    _replace(model, {pair: pair.adaptive for pair in _pairs(model)})
    return model


def adaptive_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of the adaptive wing, with the names of the plain network.

    Args:
        model: network with two wings, or a plain one.
    """
    # A batch norm that occurs at several places has an entry at each, as in a plain network.
    pairs = {
        f"{name}."
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, TwoWingNorm)
    }
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        pair = next((prefix for prefix in pairs if name.startswith(prefix)), None)
        if pair is None:
            state[name] = value
        elif name.startswith(f"{pair}adaptive."):
            state[pair + name.removeprefix(f"{pair}adaptive.")] = value
    return state


def frozen_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the scales and shifts of the frozen wing."""
    return [parameter for pair in _pairs(model) for parameter in pair.frozen.parameters()]


def frozen_statistics(model: nn.Module) -> list[Tensor]:
    """Return the running statistics of the frozen wing."""
    return [buffer for pair in _pairs(model) for buffer in pair.frozen.buffers()]


@contextmanager
def frozen_wing(model: nn.Module) -> Iterator[None]:
    """Let passes go through the frozen wing, and through the adaptive wing again at the end."""
    pairs = _pairs(model)
    try:
        for pair in pairs:
            pair.uses_frozen = True
        yield
    finally:
        for pair in pairs:
            pair.uses_frozen = False


def _pairs(model: nn.Module) -> list[TwoWingNorm]:
    return [module for module in model.modules() if isinstance(module, TwoWingNorm)]


def _replace(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Replace modules wherever they occur; a module can have several names."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in replacements:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, replacements[module])
