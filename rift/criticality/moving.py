"""A network in which one weight moves, evaluated on fixed batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.criticality.prefix import Plan, Prefix, plan_of
from rift.device import autocast
from rift.errors import first_line
from rift.models.folding import folded
from rift.models.requirements import as_logits

MIB = 2**20
TRIAL = -1
"""Number of the batch on which starts are tried."""


def gradients(of: Tensor, weights: Sequence[Tensor], again: bool = False) -> Sequence[Tensor]:
    """Return the gradients of a number; zeros for a weight that it does not depend on.

    Some networks choose their modules by the image, so a batch may leave a module out.

    Args:
        of: number that was computed by the network.
        weights: weights that require gradients.
        again: whether other gradients of the same result follow.
    """
    if not of.requires_grad:
        return [torch.zeros_like(weight) for weight in weights]
    return torch.autograd.grad(
        of, weights, retain_graph=again, allow_unused=True, materialize_grads=True
    )


@dataclass(frozen=True)
class Outcome:
    """The losses and predictions of the network.

    Attributes:
        losses: cross-entropy of every image in nats, float32, N.
        correct: whether each image is classified correctly: bool, N.
    """

    losses: Tensor
    correct: Tensor

    @property
    def loss(self) -> float:
        """Return the mean loss, in nats."""
        return self.losses.double().mean().item()

    @property
    def accuracy(self) -> float:
        """Return the accuracy, in percent."""
        return 100 * self.correct.double().mean().item()


class Examples:
    """A network and adversarial examples in batches.

    Args:
        model: network in eval mode, without gradients for its weights.
        images: adversarial examples, float32 in [0, 1], N×C×H×W.
        labels: N.
        order: order of the images in the batches, N.
        batch_size: images per batch, or the number of images of each batch.
        trial: number of images on which starts are tried.
        cache_mib: memory for the outputs of layers before a moving weight, in MiB; 0 keeps none.
        precision: ``float32`` or ``bfloat16``.

    Attributes:
        model: the network.
        batches: images and labels of every batch.
        count: number of images.
        order: order of the images in the batches, N.
        trial: the first images, on which starts are tried, and their labels.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        order: Tensor,
        batch_size: int | Sequence[int],
        trial: int,
        cache_mib: int,
        precision: str,
    ) -> None:
        self.model = model
        images, labels = images[order], labels[order]
        self.order = order
        self.batches: Sequence[tuple[Tensor, Tensor]] = list(
            zip(_split(images, batch_size), _split(labels, batch_size), strict=True)
        )
        self.count = len(labels)
        self.trial = images[:trial], labels[:trial]
        self._back = order.argsort()
        self._whole = images, labels
        self._trial = trial
        self._cache_mib = cache_mib
        self._precision = precision
        self._plans: dict[int, Plan | str] = {}

    def part(self, begin: int, sizes: Sequence[int]) -> "Examples":
        """Return some of the images, in the order of the batches, as examples of their own.

        Args:
            begin: place of the first image in that order, from 0.
            sizes: number of images of each batch.
        """
        some = slice(begin, begin + sum(sizes))
        images, labels = (each[some] for each in self._whole)
        order = torch.arange(len(labels), device=labels.device)
        part = Examples(
            self.model,
            images,
            labels,
            order,
            sizes,
            self._trial,
            self._cache_mib,
            self._precision,
        )
        # A plan does not depend on the images.
        part._plans = self._plans
        return part

    def logits(self, forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return the logits of ``forward``, computed in the chosen precision, as float32."""
        # Autocast caches converted weights until its context ends. A moving weight therefore needs
        # a new context for every pass.
        with autocast(self._precision, images.device):
            return as_logits(forward(images))

    def outcome(self, passes: Iterator[tuple[Tensor, Tensor]]) -> Outcome:
        """Return the outcome of all batches, with the images in their original order.

        Args:
            passes: losses (N) and logits (N×classes) of every batch.
        """
        losses, correct = [], []
        for (loss, logits), (_, labels) in zip(passes, self.batches, strict=True):
            losses.append(loss.detach())
            correct.append(logits.detach().argmax(1) == labels)
        return Outcome(torch.cat(losses)[self._back], torch.cat(correct)[self._back])

    def whole_passes(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield losses and logits of every batch, computed by the whole network."""
        for images, labels in self.batches:
            logits = self.logits(self.model, images)
            yield F.cross_entropy(logits, labels, reduction="none"), logits

    @contextmanager
    def moving(self, weight: nn.Parameter) -> Iterator["Moving"]:
        """Yield the network with one movable weight, and restore the weight at the end."""
        theta = weight.detach().clone()
        weight.requires_grad_(True)
        try:
            with folded(self.model, self.batches[0][0], moving=weight):
                yield Moving(self, weight, theta, self._plan(weight), self._cache_mib * MIB)
        finally:
            weight.requires_grad_(False)
            with torch.no_grad():
                weight.copy_(theta)

    def _plan(self, weight: nn.Parameter) -> Plan | str:
        images = self.batches[0][0]
        if not self._cache_mib:
            return "criticality.cache_mib is 0"
        if id(weight) not in self._plans:
            with autocast(self._precision, images.device):
                self._plans[id(weight)] = plan_of(self.model, weight, images)
        return self._plans[id(weight)]


def _split(images: Tensor, sizes: int | Sequence[int]) -> Sequence[Tensor]:
    return torch.split(images, sizes if isinstance(sizes, int) else list(sizes))


class Moving:
    """The network while one weight moves.

    If possible, a pass computes only the layers from the weight's module on.

    Args:
        examples: network and batches.
        weight: weight that moves.
        theta: value of the weight at the centre of the ball.
        plan: layers that are computed once; or the reason why every pass computes the whole
            network.
        room: memory for outputs of these layers, in bytes.

    Attributes:
        examples: network and batches.
        weight: weight that the search moves.
        theta: value of the weight at the centre of the ball.
        reason_for_whole_passes: why every pass computes the whole network; empty if none does.
    """

    def __init__(
        self, examples: Examples, weight: nn.Parameter, theta: Tensor, plan: Plan | str, room: int
    ) -> None:
        self.examples = examples
        self.weight = weight
        self.theta = theta
        self.reason_for_whole_passes = plan if isinstance(plan, str) else ""
        self._plan = None if isinstance(plan, str) else plan
        self._room = room
        self._prefixes: dict[int, Prefix] = {}

    def evaluate(self, number: int) -> tuple[Tensor, Tensor]:
        """Return differentiable losses (N) and logits (N×classes) of a batch at the present weight.

        Args:
            number: number of the batch, from 0, or ``TRIAL``.
        """
        images, labels = self.examples.trial if number == TRIAL else self.examples.batches[number]
        logits = self.examples.logits(lambda images: self._logits(number, images), images)
        return F.cross_entropy(logits, labels, reduction="none"), logits

    def gradient(self, of: Tensor, again: bool = False) -> Tensor:
        """Return the gradient of a number with respect to the weight.

        Args:
            of: number that was computed from the result of ``evaluate``.
            again: whether other gradients of the same result follow.
        """
        return gradients(of, [self.weight], again=again)[0]

    def outcome(self) -> Outcome:
        """Return the outcome of all batches at the present weight."""
        return self.examples.outcome(
            self.evaluate(number) for number in range(len(self.examples.batches))
        )

    def move(self, delta: Tensor) -> None:
        """Set the weight to θ + delta."""
        with torch.no_grad():
            self.weight.copy_(self.theta + delta)

    def _logits(self, number: int, images: Tensor) -> Tensor:
        model = self.examples.model
        if number in self._prefixes:
            try:
                return self._prefixes[number].replay(model, images)
            except LookupError as error:
                # The plan was checked with gradients. A network may call other modules without.
                self.reason_for_whole_passes = first_line(error)
                self._plan = None
                self._prefixes.clear()
        if self._plan is None or self._plan.bytes * len(images) > self._room:
            return cast("Tensor", model(images))
        logits, prefix = Prefix.record(self._plan, model, images)
        self._prefixes[number] = prefix
        self._room -= prefix.bytes
        return logits
