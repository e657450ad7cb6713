"""The modules that have a criticality, and why others have none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from rift.errors import RiftError
from rift.models.modes import eager, inference
from rift.models.requirements import PROBED, as_logits, unwrapped
from rift.models.state import copied
from rift.seeds import generator, global_numbers_kept

CONVOLUTIONS = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)
PROBED_AGAIN = 64
"""Number of images on which a module is probed again that the first images did not use."""

NO_PARAMETER = "its weight is not a parameter of it"


@dataclass(frozen=True)
class Measurable:
    """The modules of a network that can be measured.

    Attributes:
        names: names of the modules, in the network's order.
        left_out: the reason, by name, why another module has no row.
    """

    names: Sequence[str]
    left_out: Mapping[str, str]

    @property
    def note(self) -> str:
        """Return a line for the log that names the modules left out; empty if there are none."""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
        return f"modules without a row: {reasons}" if reasons else ""


def measured_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return all convolution and linear layers by name, in the network's order.

    torch's own attention has one parameter for the projections to query, key and value. The
    attention module represents it under its own name, before its ``out_proj``. Of several modules
    that share one weight, only the first is included. ``measurable_modules`` also omits the modules
    that the logits do not depend on.
    """
    found, _ = _by_layer(unwrapped(model))
    return found


def measured_weight(module: nn.Module) -> nn.Parameter:
    """Return the weight of a measured module, or ``in_proj_weight`` of torch's attention."""
    return module.get_parameter(_weight_name(module))


def measurable_modules(model: nn.Module, images: Tensor) -> Measurable:
    """Return the modules that can be measured, after a pass over a few images.

    Args:
        model: network, on the device of the images; it is in eval mode meanwhile.
        images: float32 in [0, 1], N×C×H×W; only the first are used.

    Raises:
        RiftError: no module is left.
    """
    model = with_plain_weights(unwrapped(model))
    modules, left_out = _by_layer(model)
    left_out |= unreached(model, images, list(modules))
    names = [name for name in modules if name not in left_out]
    if not names:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise RiftError(
            f"network: has no module to measure ({reasons or 'it has no convolution or linear'}"
            f"{'' if reasons else ' layer'}); pass a network of convolution and linear layers"
        )
    return Measurable(names, left_out)


def check_measurable(model: nn.Module, images: Tensor, names: Sequence[str]) -> None:
    """Check that modules which were asked for can be measured.

    Args:
        model: network from ``with_plain_weights``.
        images: float32 in [0, 1], N×C×H×W; only the first are used.
        names: names of the modules.

    Raises:
        RiftError: a module cannot be measured; the message says why.
    """
    modules, left_out = _by_layer(model)
    for name in names:
        if name not in modules:
            reason = left_out.get(name, "the network has no such convolution or linear layer")
            raise RiftError(
                f"module {name}: cannot be measured: {reason}; measure one of {', '.join(modules)}"
            )
    for name, reason in unreached(model, images, names).items():
        raise RiftError(f"module {name}: cannot be measured: {reason}; omit it")


def unreached(model: nn.Module, images: Tensor, names: Sequence[str]) -> dict[str, str]:
    """Return why the logits cannot be differentiated by the weights of some modules, by name.

    A weight without a gradient is moved far. The logits of the probed images show whether they
    depend on it.

    Args:
        model: network from ``with_plain_weights``; it is restored.
        images: float32 in [0, 1], N×C×H×W; only the first are used.
        names: names of the modules.
    """
    reasons = {}
    with inference(model), eager(model), global_numbers_kept(images.device):
        # A network may choose modules by the image, so more images are probed before a verdict.
        for count in (PROBED, PROBED_AGAIN):
            probe = images[:count]
            names = [name for name, gradient in _gradients(model, probe, names) if not gradient]
        for name in names:
            weight = measured_weight(model.get_submodule(name))
            if not _logits_move(model, weight, probe):
                reasons[name] = "the logits do not depend on its weight"
            elif name in _without_graph(model, probe, names):
                reasons[name] = "the network computes it without gradients (no_grad or detach)"
    return reasons


def with_plain_weights(model: nn.Module) -> nn.Module:
    """Return a network whose measured weights are parameters.

    Weight norm, spectral norm, pruning and other parametrizations compute a weight from other
    tensors. They are removed from a copy, which has the computed weight as its parameter. A network
    without them is returned itself.

    Args:
        model: network; it does not change.

    Raises:
        RiftError: the network cannot be copied.
    """
    computed = [
        name
        for name, module in model.named_modules()
        if _has_layer_type(module) and _is_computed(module, _weight_name(module))
    ]
    if not computed:
        return model
    try:
        plain = copied(model)
    except RiftError as error:
        raise RiftError(
            f"module {computed[0]}: {NO_PARAMETER}, and it cannot be replaced in a copy: {error};"
            " remove its parametrization or weight norm first"
        ) from error
    plain.eval()
    for name in computed:
        module = plain.get_submodule(name)
        _make_plain(module, _weight_name(module))
    return plain.train(model.training)


def _by_layer(model: nn.Module) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Return the modules that are measured, and why other layers of torch are not, by name."""
    found: dict[str, nn.Module] = {}
    left_out: dict[str, str] = {}
    owner: dict[int, str] = {}
    for name, module in model.named_modules():
        if not _has_layer_type(module):
            if _is_other_layer(module):
                left_out[name] = f"{type(module).__name__} is no convolution or linear layer"
            continue
        attribute = _weight_name(module)
        weight = module._parameters.get(attribute)
        if weight is None and not _is_computed(module, attribute):
            left_out[name] = (
                "its query, key and value have weights of their own (kdim, vdim)"
                if isinstance(module, nn.MultiheadAttention)
                else NO_PARAMETER
            )
        elif weight is not None and id(weight) in owner:
            left_out[name] = f"it shares the weight of {owner[id(weight)]}"
        else:
            found[name] = module
            if weight is not None:
                owner[id(weight)] = name
    return found, left_out


def _has_layer_type(module: nn.Module) -> bool:
    return isinstance(module, CONVOLUTIONS | nn.Linear | nn.MultiheadAttention)


def _is_other_layer(module: nn.Module) -> bool:
    """Return whether a module is another layer of torch with matrices, such as an LSTM."""
    return type(module).__module__.startswith("torch.nn.modules") and any(
        weight.ndim >= 2 for weight in module.parameters(recurse=False)
    )


def _weight_name(module: nn.Module) -> str:
    return "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"


def _is_computed(module: nn.Module, name: str) -> bool:
    """Return whether a known mechanism computes a tensor of a module from other tensors."""
    return parametrize.is_parametrized(module, name) or any(
        _tensor_of(hook) == name for hook in module._forward_pre_hooks.values()
    )


def _tensor_of(hook: object) -> str | None:
    """Return the name of the tensor that a hook of torch computes; None for other hooks."""
    if isinstance(hook, WeightNorm | SpectralNorm):
        return str(hook.name)
    return str(hook._tensor_name) if isinstance(hook, prune.BasePruningMethod) else None


def _make_plain(module: nn.Module, name: str) -> None:
    """Replace a computed tensor of a module by a parameter of the same value."""
    if parametrize.is_parametrized(module, name):
        # torch's remove_parametrizations changes the class, which the copy shares with the
        # original.
        parametrized = module.get_submodule("parametrizations")
        values = {
            own: getattr(module, own).detach().clone() for own, _ in parametrized.named_children()
        }
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for own, value in values.items():
            module.register_parameter(own, nn.Parameter(value))
    for hook in [*module._forward_pre_hooks.values()]:
        if _tensor_of(hook) != name:
            continue
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, name)
        else:
            prune.remove(module, name)


def _gradients(
    model: nn.Module, images: Tensor, names: Sequence[str]
) -> Iterator[tuple[str, bool]]:
    """Yield each name, and whether the logits have a gradient for its weight that is not zero."""
    if not names:
        return
    weights = [measured_weight(model.get_submodule(name)) for name in names]
    for name, gradient in zip(names, _derivatives(model, images, weights), strict=True):
        yield name, gradient is not None and bool(gradient.count_nonzero())


def _without_graph(model: nn.Module, images: Tensor, names: Sequence[str]) -> set[str]:
    """Return the names of the modules for whose weights the logits have no gradient at all."""
    weights = [measured_weight(model.get_submodule(name)) for name in names]
    found = zip(names, _derivatives(model, images, weights), strict=True)
    return {name for name, gradient in found if gradient is None}


def _derivatives(
    model: nn.Module, images: Tensor, weights: Sequence[nn.Parameter]
) -> Sequence[Tensor | None]:
    """Return the gradients of the sum of squares of the logits."""
    for weight in weights:
        weight.requires_grad_(True)
    try:
        logits = as_logits(model(images))
        if not logits.requires_grad:
            return [None] * len(weights)
        return torch.autograd.grad(logits.square().sum(), weights, allow_unused=True)
    finally:
        for weight in weights:
            weight.requires_grad_(False)


@torch.no_grad()
def _logits_move(model: nn.Module, weight: nn.Parameter, images: Tensor) -> bool:
    """Return whether the logits change if a weight moves far."""
    before, theta = as_logits(model(images)), weight.detach().clone()
    noise = torch.randn(
        weight.shape,
        generator=generator(0, "probe of a weight", weight.device),
        device=weight.device,
    )
    try:
        weight.add_(noise * (theta.abs().max() or 1))
        return not torch.equal(as_logits(model(images)), before)
    finally:
        weight.copy_(theta)
