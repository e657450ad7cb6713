"""Batch norm folded into the convolution before it, while weights and statistics are fixed.

In eval mode, batch norm multiplies every channel by a number and adds one. The convolution can do
both, with other weights. Passes through narrow networks then take about two thirds of the time,
because batch norm moves as much memory as the convolution.
"""

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rift.models.requirements import PROBED
from rift.seeds import global_numbers_kept

TOLERANCE = 1e-3
"""Greatest difference of logits, as a share of the greatest logit, that the check allows.

Rounding causes differences of about 10⁻⁶. An output that something else uses, too, causes large
ones.
"""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Pair = tuple[nn.Module, nn.Module]
"""A convolution, and the batch norm that alone uses its output."""

_known: "weakref.WeakKeyDictionary[nn.Module, tuple[list[nn.Module], list[Pair]]]" = (
    weakref.WeakKeyDictionary()
)


@contextmanager
def folded(model: nn.Module, images: Tensor, moving: nn.Parameter | None = None) -> Iterator[None]:
    """Compute batch norms as part of the convolutions before them.

    Logits are the same up to rounding. Weights and running statistics must not change within the
    context, and get no gradients. Networks where nothing can be folded are left as they are:
    without such pairs, compiled, or in training mode.

    Args:
        model: network in eval mode.
        images: images for the passes that look for pairs, N×C×H×W; only the first are used, and
            only if the network is new.
        moving: weight that changes within the context; what depends on it is not folded.
    """
    with ExitStack() as stack:
        for convolution, norm in _pairs(model, images):
            own = [*convolution.parameters(), *norm.parameters()]
            if _can_fold(convolution, norm) and all(weight is not moving for weight in own):
                stack.enter_context(_as_one(convolution, norm))
        yield


def _pairs(model: nn.Module, images: Tensor) -> Sequence[Pair]:
    """Return the pairs of a network: those found before, if it still has the same modules."""
    modules = list(model.modules())
    norms = [module for module in modules if type(module) in NORMS]
    compiled = any(module._compiled_call_impl is not None for module in modules)
    # A pass in training mode would move running statistics.
    if not norms or compiled or len(images) == 0 or any(module.training for module in modules):
        return ()
    inner = modules[1:]
    before = _known.get(model)
    if before is not None and [*map(id, before[0])] == [*map(id, inner)]:
        return before[1]
    if any("forward" in vars(module) for module in modules):
        return ()  # somebody replaces calls for now, which hides pairs
    found = _checked_pairs(model, images[:PROBED].detach())
    _known[model] = inner, found
    return found


def _checked_pairs(model: nn.Module, images: Tensor) -> list[Pair]:
    """Return the pairs that passes through the network show; none if folding changes its logits."""
    in_full = torch.autocast(images.device.type, enabled=False)
    with global_numbers_kept(images.device), in_full, torch.enable_grad():
        try:
            found, whole = _observed(model, images.clone().requires_grad_())
            with torch.no_grad(), ExitStack() as stack:
                for pair in found:
                    stack.enter_context(_as_one(*pair))
                parts = model.forward(images)
            near = (parts - whole).abs().max() <= TOLERANCE * whole.abs().max()
        except (RuntimeError, TypeError, AttributeError, ValueError, LookupError, AssertionError):
            return []  # Another kind of output, or of input: a pass that matters says so.
    return found if near else []


def _observed(model: nn.Module, images: Tensor) -> tuple[list[Pair], Tensor]:
    """Return the pairs of a pass, and its logits.

    Each module of a pair is called once, the norm gets the very tensor that the convolution
    returned, and no other operation uses it.
    """
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    calls: Counter[nn.Module] = Counter()
    candidates: list[tuple[nn.Module, nn.Module, Tensor]] = []

    def after(module: nn.Module, _given: Any, output: Any) -> None:
        calls[module] += 1
        if isinstance(output, Tensor):
            made[id(output)] = module, output

    def before(module: nn.Module, given: Any) -> None:
        calls[module] += 1
        convolution, output = made.get(id(given[0]), (None, None)) if given else (None, None)
        if convolution is not None and output is not None:
            candidates.append((convolution, module, output))

    hooks = []
    try:
        for module in model.modules():
            if type(module) in CONVOLUTIONS and not _is_hooked(module):
                hooks.append(module.register_forward_hook(after))
            elif type(module) in NORMS and not _is_hooked(module):
                hooks.append(module.register_forward_pre_hook(before))
        # Hooks of the whole network, which count or check its passes, do not see this one.
        logits: Tensor = model.forward(images)
    finally:
        for hook in hooks:
            hook.remove()
    uses = _uses(logits)
    pairs = [
        (convolution, norm)
        for convolution, norm, output in candidates
        if calls[convolution] == calls[norm] == 1
        and uses[output.grad_fn] == 1
        and _can_fold(convolution, norm)
    ]
    return pairs, logits.detach()


def _uses(logits: Tensor) -> Counter[Any]:
    """Return how many operations use the result of each operation of a pass."""
    uses: Counter[Any] = Counter()
    seen, waiting = set(), [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for source, _ in node.next_functions:
            uses[source] += 1
            waiting.append(source)
    return uses


def _is_hooked(module: nn.Module) -> bool:
    """Return whether somebody sees or changes the module's calls; folding would change them."""
    return bool(
        "forward" in vars(module)
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _can_fold(convolution: nn.Module, norm: Any) -> bool:
    """Return whether a norm has fixed statistics, and nobody else replaces one of the two."""
    return not (
        norm.training or norm.running_mean is None or _is_hooked(convolution) or _is_hooked(norm)
    )


@contextmanager
def _as_one(convolution: Any, norm: Any) -> Iterator[None]:
    """Let a convolution do the work of a batch norm, too."""
    with torch.no_grad():
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        weight = convolution.weight * scale.view(-1, *(1 for _ in convolution.weight.shape[1:]))
        shift = (
            -norm.running_mean if convolution.bias is None else convolution.bias - norm.running_mean
        )
        bias = shift * scale if norm.bias is None else shift * scale + norm.bias
    vars(convolution)["forward"] = partial(convolution._conv_forward, weight=weight, bias=bias)
    vars(norm)["forward"] = _unchanged
    try:
        yield
    finally:
        del vars(convolution)["forward"], vars(norm)["forward"]


def _unchanged(images: Tensor) -> Tensor:
    return images
