"""What a network computes before one of its modules: computed once, and replayed while that module's weight moves."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rift.errors import first_line

PROBED = 2  # images that a plan is made and checked with

Forward = Callable[..., Any]
Intercept = Callable[..., Any]


@contextmanager
def _intercepted(model: nn.Module, intercept: Intercept) -> Iterator[None]:
    """Let every call of a submodule go through ``intercept(module, forward, *arguments)``.

    What is replaced is the submodule's ``forward``, which hooks surround: they see and change what they would without us.
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
    """Notes the outermost calls that end before the first of ``starts`` begins.

    Attributes:
        calls: modules and what they returned.
        versions: how often that had been written to, when it was returned.
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
            # The calls within this one are part of it.
            self.calls[place:] = [(module, self.plan.kept(place, output))]
            self.versions[place:] = [_version(output)]
        return output


class _Replayer:
    """Answers the calls that were recorded, in their order, and lets all others through."""

    def __init__(self, plan: "Plan", calls: Sequence[tuple[nn.Module, Any]]) -> None:
        self.plan = plan
        self.calls = calls
        self.done = 0

    def __call__(self, module: nn.Module, forward: Forward, *arguments: Any, **options: Any) -> Any:
        if self.done == len(self.calls) or self.calls[self.done][0] is not module:
            return forward(*arguments, **options)
        self.done += 1
        return self.plan.given(self.done - 1, self.calls[self.done - 1][1])


@dataclass(frozen=True)
class Plan:
    """How the calls before a module are kept, by their places in the order of calls.

    Attributes:
        starts: modules whose calls are the first that use the weight.
        unused: calls whose outputs nothing after them depends on: stand-ins of the same shape take their place.
        written: calls whose outputs are written to later: what is kept and what is given are copies.
        bytes: that an image takes.
    """

    starts: frozenset[nn.Module]
    unused: frozenset[int] = frozenset()
    written: frozenset[int] = frozenset()
    bytes: int = 0

    def kept(self, place: int, output: Any) -> Any:
        if place in self.unused:
            return torch.zeros((), dtype=output.dtype, device=output.device).expand(output.shape)
        return self.given(place, output)

    def given(self, place: int, output: Any) -> Any:
        return output.clone() if place in self.written else output


class Prefix:
    """The outputs of the calls before a module, for one batch."""

    def __init__(self, plan: Plan, calls: Sequence[tuple[nn.Module, Any]]) -> None:
        self._plan = plan
        self._calls = calls

    @classmethod
    def record(cls, plan: Plan, model: nn.Module, images: Tensor) -> tuple[Tensor, "Prefix"]:
        """Run the model on a batch; return its logits, and what can be replayed."""
        recorder = _Recorder(plan)
        with _intercepted(model, recorder):
            logits: Tensor = model(images)
        return logits, cls(plan, recorder.calls)

    def replay(self, model: nn.Module, images: Tensor) -> Tensor:
        """Run what follows on the same batch.

        Raises:
            LookupError: the model did not make the same calls in the same order.
        """
        replayer = _Replayer(self._plan, self._calls)
        with _intercepted(model, replayer):
            logits: Tensor = model(images)
        if replayer.done < len(self._calls):
            raise LookupError("it does not call its modules in the same order each time")
        return logits

    @property
    def bytes(self) -> int:
        """Memory that it holds."""
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for _, output in self._calls
            for tensor in _tensors(output)
        }
        return sum(storages.values())


def plan_of(model: nn.Module, weight: nn.Parameter, images: Tensor) -> Plan | str:
    """Find out what can be kept while a weight moves, and make sure that it comes to the same.

    Args:
        model: in eval mode; the weight alone wants a gradient.
        weight: of one of its modules; it is as before afterwards.
        images: a batch; its first images are used.

    Returns:
        The plan; or, if there is none, the reason why.
    """
    probe = images[:PROBED]
    try:
        starts = _starts(model, weight, probe)
        if model in starts:
            return "the network uses its weight without calling the module"
        plan = _pruned(Plan(starts), model, probe)
        return (
            plan
            if _agrees(plan, model, weight, probe)
            else "what follows it gave other results alone"
        )
    except (LookupError, RuntimeError, TypeError, AttributeError) as error:
        return first_line(error)


def _starts(model: nn.Module, weight: nn.Parameter, images: Tensor) -> frozenset[nn.Module]:
    """Say which modules' calls are the first that use a weight.

    A module that holds the weight but is never called (torch's attention uses that of its ``out_proj`` itself) is used by the
    module around it.
    """
    called = {model}

    def note(module: nn.Module, forward: Forward, *arguments: Any, **options: Any) -> Any:
        called.add(module)
        return forward(*arguments, **options)

    with _intercepted(model, note):
        model(images)
    starts = set()
    for name, owner in model.named_modules():
        if any(held is weight for held in owner.parameters(recurse=False)):
            around, module = name, owner
            while module not in called:
                around = around.rpartition(".")[0]
                module = model.get_submodule(around)
            starts.add(module)
    return frozenset(starts)


def _pruned(plan: Plan, model: nn.Module, images: Tensor) -> Plan:
    """Learn which outputs are written to, and which nothing after them depends on."""
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
    # Each output gets a leaf of its own to stand behind it: without a gradient, nothing depends on it.
    leaves = {
        place: torch.zeros_like(output).requires_grad_()
        for place, (_, output) in enumerate(recorded)
        if isinstance(output, Tensor) and output.is_floating_point()
    }
    stood_for = [
        (module, leaves[place].clone() if place in leaves else output)
        for place, (module, output) in enumerate(recorded)
    ]
    logits = Prefix(plan, stood_for).replay(model, images)
    written |= {place for place in leaves if stood_for[place][1]._version}
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
    """Say whether what is replayed gives the logits and the gradient of the whole model, when the weight has moved."""
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
    *alone, whole = results
    return all(
        (ours - theirs).norm() <= 1e-4 * theirs.norm()
        for result in alone
        for ours, theirs in zip(result, whole, strict=True)
    )


def _tensors(output: Any) -> Iterator[Tensor]:
    """All tensors of what a module returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)


def _version(output: Any) -> int:
    """How often the tensors of an output have been written to."""
    return sum(tensor._version for tensor in _tensors(output))
