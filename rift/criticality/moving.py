"""A network of which one weight moves, on batches that stay the same."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.criticality.prefix import Plan, Prefix, plan_of
from rift.device import autocast, to_float32

MIB = 2**20
TRIAL = -1  # number of the batch that starts are tried on


@dataclass(frozen=True)
class Outcome:
    """What the network does with every image.

    Attributes:
        losses: cross-entropy in nats, float32, N.
        correct: bool, N.
    """

    losses: Tensor
    correct: Tensor

    @property
    def loss(self) -> float:
        """Mean loss, in nats."""
        return self.losses.double().mean().item()

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100 * self.correct.double().mean().item()


class Examples:
    """A network in eval mode and the adversarial examples that it is judged on, cut into batches.

    Attributes:
        model: the network, without gradients for its weights.
        batches: images (float32 in [0, 1], N×C×H×W) and labels of every batch.
        trial: those that starts are tried on; the first ones.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        order: Tensor,
        batch_size: int,
        trial: int,
        cache_mib: int,
        precision: str,
    ) -> None:
        self.model = model
        images, labels = images[order], labels[order]
        self.batches: Sequence[tuple[Tensor, Tensor]] = list(
            zip(images.split(batch_size), labels.split(batch_size), strict=True)
        )
        self.trial = images[:trial], labels[:trial]
        self._back = order.argsort()
        self._cache_bytes = cache_mib * MIB
        self._precision = precision

    def logits(self, forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Compute logits, float32, in the arithmetic asked for."""
        # A context of its own for every pass: autocast remembers weights, and forgets them only where it ends.
        with autocast(self._precision, images.device):
            return to_float32(forward(images))

    def outcome(self, passes: Iterator[tuple[Tensor, Tensor]]) -> Outcome:
        """Put together the losses and the logits of all batches, in the order that the images came in."""
        losses, correct = [], []
        for (loss, logits), (_, labels) in zip(passes, self.batches, strict=True):
            losses.append(loss.detach())
            correct.append(logits.detach().argmax(1) == labels)
        return Outcome(torch.cat(losses)[self._back], torch.cat(correct)[self._back])

    def whole(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Losses and logits of every batch, by the whole network."""
        for images, labels in self.batches:
            logits = self.logits(self.model, images)
            yield F.cross_entropy(logits, labels, reduction="none"), logits

    @contextmanager
    def moving(self, weight: nn.Parameter) -> Iterator["Moving"]:
        """Let one weight move for a while; it is as before afterwards."""
        theta = weight.detach().clone()
        weight.requires_grad_(True)
        try:
            yield Moving(self, weight, theta, self._plan(weight), self._cache_bytes)
        finally:
            weight.requires_grad_(False)
            with torch.no_grad():
                weight.copy_(theta)

    def _plan(self, weight: nn.Parameter) -> Plan | str:
        images = self.batches[0][0]
        if not self._cache_bytes:
            return "cache_mib is 0"
        with autocast(self._precision, images.device):
            return plan_of(self.model, weight, images)


class Moving:
    """The network while one weight moves: of every pass, only what follows the weight's module is computed.

    Attributes:
        weight: moved by whoever searches.
        theta: where it was.
        plain: why whole passes are computed instead; empty: they are not.
    """

    def __init__(
        self, examples: Examples, weight: nn.Parameter, theta: Tensor, plan: Plan | str, room: int
    ) -> None:
        self.examples = examples
        self.weight = weight
        self.theta = theta
        self.plain = plan if isinstance(plan, str) else ""
        self._plan = None if isinstance(plan, str) else plan
        self._room = room
        self._prefixes: dict[int, Prefix] = {}

    def look(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the losses of a batch or of ``TRIAL``, N, and its logits, where the weight is now.

        Both know their gradient.
        """
        images, labels = self.examples.trial if number == TRIAL else self.examples.batches[number]
        logits = self.examples.logits(lambda images: self._logits(number, images), images)
        return F.cross_entropy(logits, labels, reduction="none"), logits

    def gradient(self, of: Tensor, again: bool = False) -> Tensor:
        """Return the gradient of a number that was computed from what ``look`` returned; ``again``: others will follow."""
        return torch.autograd.grad(of, self.weight, retain_graph=again)[0]

    def outcome(self) -> Outcome:
        """Look at all batches."""
        return self.examples.outcome(
            self.look(number) for number in range(len(self.examples.batches))
        )

    def move(self, delta: Tensor) -> None:
        """Put the weight to θ + delta."""
        with torch.no_grad():
            self.weight.copy_(self.theta + delta)

    def _logits(self, number: int, images: Tensor) -> Tensor:
        model = self.examples.model
        if number in self._prefixes:
            return self._prefixes[number].replay(model, images)
        if self._plan is None or self._plan.bytes * len(images) > self._room:
            return cast("Tensor", model(images))
        logits, prefix = Prefix.record(self._plan, model, images)
        self._prefixes[number] = prefix
        self._room -= prefix.bytes
        return logits
