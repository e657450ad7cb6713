"""Replay of the outputs that a network computes before one of its modules.

While the weight of a module moves, everything before the module stays the same. It is computed once
per batch, and its outputs are replayed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rift.errors import first_line

PROBED = 2
"""Number of images with which a plan is made and checked."""

Forward = Callable[..., Any]
Intercept = Callable[..., Any]


@contextmanager
def _intercepted(model: nn.Module, intercept: Intercept) -> Iterator[None]:
    """Replace every call of a submodule by ``intercept(module, forward, *arguments)``.

    This replaces the submodule's ``forward``. Hooks run around ``forward``, so they see and change
    the same values as without the replacement.
    """
    before: list[tuple[nn.Module, Any]] = []
    try:
        for module in model.modules():
            if module is not model:
                before.append((module, vars(module).get("forward")))
                vars(module)["forward"] = partial(intercept, module, module.forward)
        yield
    finally:
        for module, forward in before:
            del vars(module)["forward"]
            if forward is not None:
                vars(module)["forward"] = forward


class _Recorder:
    """Records the outermost calls that end before the first of ``starts`` begins.

    Attributes:
        calls: modules and their outputs.
        versions: number of writes to each output when it was returned.
    """

    def __init__(self, plan: "Plan") -> None:
        self.plan = plan
        self.started = False
        self.calls: list[tuple[nn.Module, Any]] = []
        self.versions: list[int] = []

    def __call__(self, module: nn.Module, forward: Forward, *arguments: Any, **options: Any) -> Any:
        self.started = self.started or module in self.plan.starts
        if self.started:
            return forward(*arguments, **options)
        place = len(self.calls)
        output = forward(*arguments, **options)
        if not self.started:
            # This call replaces the calls within it.
            self.calls[place:] = [(module, self.plan.kept(place, output))]
            self.versions[place:] = [_version(output)]
        return output


class _Replayer:
    """Returns the recorded outputs in their order, and runs all other calls."""

    def __init__(self, plan: "Plan", calls: Sequence[tuple[nn.Module, Any]]) -> None:
        self.plan = plan
        self.calls = calls
        self.done = 0

    def __call__(self, module: nn.Module, forward: Forward, *arguments: Any, **options: Any) -> Any:
        if self.done == len(self.calls) or self.calls[self.done][0] is not module:
            return forward(*arguments, **options)
        self.done += 1
        return self.plan.replayed(self.done - 1, self.calls[self.done - 1][1])


@dataclass(frozen=True)
class Plan:
    """Which calls before a module are kept, and how. Calls are numbered in their order, from 0.

    Attributes:
        starts: modules whose calls are the first to use the weight.
        unused: calls whose outputs no later call depends on; empty tensors of the same shape
            replace them.
        written: calls whose outputs are modified in place later; they are kept and replayed as
            copies.
        bytes: memory per image.
    """

    starts: frozenset[nn.Module]
    unused: frozenset[int] = frozenset()
    written: frozenset[int] = frozenset()
    bytes: int = 0

    def kept(self, place: int, output: Any) -> Any:
        """Return the value to keep for the output of a call."""
        if place in self.unused:
            return torch.zeros((), dtype=output.dtype, device=output.device).expand(output.shape)
        return self.replayed(place, output)

    def replayed(self, place: int, output: Any) -> Any:
        """Return the value to replay for a call, from the value that was kept."""
        return output.clone() if place in self.written else output


class Prefix:
    """The outputs of the calls before a module, for one batch.

    Args:
        plan: how the outputs are kept.
        calls: modules and their outputs, in the order of the calls.
    """

    def __init__(self, plan: Plan, calls: Sequence[tuple[nn.Module, Any]]) -> None:
        self._plan = plan
        self._calls = calls

    @classmethod
    def record(cls, plan: Plan, model: nn.Module, images: Tensor) -> tuple[Tensor, "Prefix"]:
        """Run the model on a batch, and return its logits and the outputs to replay."""
        recorder = _Recorder(plan)
        with _intercepted(model, recorder):
            logits: Tensor = model(images)
        return logits, cls(plan, recorder.calls)

    def replay(self, model: nn.Module, images: Tensor) -> Tensor:
        """Run the rest of the model on the same batch, and return its logits.

        Raises:
            LookupError: the model did not make the same calls in the same order.
        """
        replayer = _Replayer(self._plan, self._calls)
        with _intercepted(model, replayer):
            logits: Tensor = model(images)
        if replayer.done < len(self._calls):
            raise LookupError("the network does not call its modules in the same order each time")
        return logits

    @property
    def bytes(self) -> int:
        """Return the memory of the outputs, in bytes."""
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for _, output in self._calls
            for tensor in _tensors(output)
        }
        return sum(storages.values())


def plan_of(model: nn.Module, weight: nn.Parameter, images: Tensor) -> Plan | str:
    """Return which outputs can be replayed while a weight moves, after a check of the results.

    Args:
        model: network in eval mode, in which only the weight requires a gradient.
        weight: weight of one of the modules; it is restored.
        images: a batch, float32, N×C×H×W; only its first images are used.

    Returns:
        The plan, or the reason why there is none.
    """
    probe = images[:PROBED]
    try:
        starts = _starts(model, weight, probe)
        if model in starts:
            return "the network uses the weight without a call of its module"
        plan = _pruned(Plan(starts), model, probe)
        return plan if _agrees(plan, model, weight, probe) else "the replay gave different results"
    except (LookupError, RuntimeError, TypeError, AttributeError) as error:
        return first_line(error)


def _starts(model: nn.Module, weight: nn.Parameter, images: Tensor) -> frozenset[nn.Module]:
    """Return the modules whose calls are the first to use a weight.

    Some modules own the weight but are never called. torch's attention, for example, uses the
    weight of its ``out_proj`` directly. Then the calling module is the nearest one around the
    owner.
    """
    called = {model}

    def note(module: nn.Module, forward: Forward, *arguments: Any, **options: Any) -> Any:
        called.add(module)
        return forward(*arguments, **options)

    with _intercepted(model, note):
        model(images)
    starts = set()
    for name, owner in model.named_modules():
        if any(own is weight for own in owner.parameters(recurse=False)):
            around, module = name, owner
            while module not in called:
                around = around.rpartition(".")[0]
                module = model.get_submodule(around)
            starts.add(module)
    return frozenset(starts)


def _pruned(plan: Plan, model: nn.Module, images: Tensor) -> Plan:
    """Return the plan with the outputs that a trial found to be unused or modified in place."""
    recorder = _Recorder(plan)
    with _intercepted(model, recorder):
        model(images)
    recorded = recorder.calls
    written = {
        place
        for place, ((_, output), version) in enumerate(
            zip(recorded, recorder.versions, strict=True)
        )
        if _version(output) != version
    }
    # A leaf replaces each output. If the leaf gets no gradient, no later call depends on the
    # output.
    leaves = {
        place: torch.zeros_like(output).requires_grad_()
        for place, (_, output) in enumerate(recorded)
        if isinstance(output, Tensor) and output.is_floating_point()
    }
    replaced = [
        (module, leaves[place].clone() if place in leaves else output)
        for place, (module, output) in enumerate(recorded)
    ]
    logits = Prefix(plan, replaced).replay(model, images)
    written |= {place for place in leaves if replaced[place][1]._version}
    gradients = (
        torch.autograd.grad(logits.sum(), list(leaves.values()), allow_unused=True)
        if leaves
        else ()
    )
    unused = {place for place, gradient in zip(leaves, gradients, strict=True) if gradient is None}
    pruned = Plan(plan.starts, frozenset(unused - written), frozenset(written))
    _, prefix = Prefix.record(pruned, model, images)
    return Plan(pruned.starts, pruned.unused, pruned.written, -(-prefix.bytes // len(images)))


def _agrees(plan: Plan, model: nn.Module, weight: nn.Parameter, images: Tensor) -> bool:
    """Return whether replay and whole model agree in logits and gradient at a moved weight."""
    _, prefix = Prefix.record(plan, model, images)
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.1)
    try:
        results = []
        for logits in (prefix.replay(model, images), prefix.replay(model, images), model(images)):
            (gradient,) = torch.autograd.grad(logits.float().square().sum(), weight)
            results.append((logits.detach().float(), gradient.float()))
    finally:
        with torch.no_grad():
            weight.copy_(before)
    *replayed, whole = results
    return all(
        (ours - theirs).norm() <= 1e-4 * theirs.norm()
        for result in replayed
        for ours, theirs in zip(result, whole, strict=True)
    )


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield all tensors in the output of a module."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)


def _version(output: Any) -> int:
    """Return the number of writes to the tensors of an output."""
    return sum(tensor._version for tensor in _tensors(output))
