"""The step of one batch: attack, weight perturbation, loss, gradients.

``BatchGradient`` reads from top to bottom. It can compute a batch in parts, and share it with other
processes.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rift.attacks.inner import INNER, draw_noise, resolve
from rift.config import TrainingSettings
from rift.device import autocast
from rift.models.modes import inference, trainable
from rift.training import awp
from rift.training.compiling import begin_step
from rift.training.parallel import ProcessGroup
from rift.training.regimes import Regime
from rift.training.running_statistics import Seen, move_statistics, untouched_statistics

Part = tuple[Tensor, Tensor, Tensor]  # clean images, adversarial images, labels


class BatchGradient:
    """A function that computes the gradients of a batch.

    Args:
        model: network; it must be in training mode at a call.
        regime: loss and objective of the inner attack.
        settings: settings of the regime and of the inner attack, precision, and number of parts.
        stream: source of the inner attack's noise, on the device of the images.
        group: processes that share every batch.
    """

    def __init__(
        self,
        model: nn.Module,
        regime: Regime,
        settings: TrainingSettings,
        stream: torch.Generator,
        group: ProcessGroup,
    ) -> None:
        self.model, self.regime, self.settings = model, regime, settings
        self.stream, self.group = stream, group
        self.attack = resolve(settings.inner, settings.attack)
        self.seen = _passes(regime, settings.train.statistics)
        self.loss = _Loss(model, regime, settings)
        self.shared_loss = _averaging_gradients(self.loss) if group.size > 1 else self.loss

    def __call__(self, images: Tensor, labels: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of the mean loss to those of the weights.

        Args:
            images: float32 in [0, 1], N×C×H×W.
            labels: N.
            epoch: number of the epoch, from 1; AWP starts after the first ``awp.warmup`` epochs.

        Returns:
            Mean loss, and number of images that were classified correctly.
        """
        begin_step(self.settings.train.compile)
        attacks = self.regime.objective is not None
        noise = draw_noise(images, self.attack, self.stream) if attacks else images
        parts = [
            (clean, self._attacked(clean, target, start), target)
            for clean, target, start in self._pieces(images, labels, noise)
        ]

        count, outcome = len(labels), torch.zeros(2, device=images.device)  # mean loss, hits
        with self._perturbed_weights(parts, count, epoch):
            for number, part in enumerate(parts, start=1):
                with self._adding_up(last=number == len(parts)), self._statistics_of_loss():
                    loss, logits = self.shared_loss(*part)
                    share = len(part[0]) / count
                    # Processes average their gradients, and the gradient of the batch is a sum.
                    (loss * (share * self.group.size)).backward()
                hits = (logits.detach().argmax(1) == part[2]).sum()
                outcome += torch.stack([loss.detach() * share, hits])

        self._move_statistics(parts)
        self.group.add([outcome])
        if images.device.type != "cuda":
            self.group.average_statistics(self.model)
        return outcome[0], outcome[1].long()

    def _pieces(
        self, images: Tensor, labels: Tensor, noise: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield this process's share of a batch in parts of about equal size; none is empty.

        All processes must have equally many parts, because they run each forward pass together.
        """
        cuts = max(1, min(self.settings.train.accumulate, len(labels) // self.group.size))
        wholes = (images, labels, noise)
        yield from zip(
            *(self.group.share(whole).tensor_split(cuts) for whole in wholes), strict=True
        )

    def _attacked(self, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        if self.regime.objective is None:
            return images
        with self._mode_of_attack(), autocast(self.settings.train.precision, images.device):
            with torch.no_grad():
                objective = self.regime.objective(self.model, images, labels)
            raise_objective = INNER[self.attack.method]
            return raise_objective(self.model, images, objective, noise, self.attack)

    @contextmanager
    def _mode_of_attack(self) -> Iterator[None]:
        """Set the mode of the network for the inner attack, without gradients of its weights."""
        if self.regime.attacks_in == "eval":
            with inference(self.model):
                yield
            return
        published = self.settings.train.statistics == "published"
        keep = nullcontext() if published else untouched_statistics(self.model)
        with trainable(self.model, []), keep:
            yield

    def _statistics_of_loss(self) -> AbstractContextManager[None]:
        """Keep the running statistics fixed during the loss, unless its images move them."""
        return nullcontext() if self.seen is None else untouched_statistics(self.model)

    def _move_statistics(self, parts: Sequence[Part]) -> None:
        """Move the running statistics by the passes of ``train.statistics``."""
        if self.seen is None:
            return
        for clean, attacked, _ in parts:
            with autocast(self.settings.train.precision, clean.device):
                move_statistics(self.model, clean, attacked, self.seen)

    @contextmanager
    def _perturbed_weights(self, parts: Sequence[Part], count: int, epoch: int) -> Iterator[None]:
        """Move the weights along the gradient of the batch's loss (AWP), and restore them."""
        if not self.regime.perturbs_weights or epoch <= self.settings.awp.warmup:
            yield
            return
        weights = awp.perturbed_weights(self.model)
        total = [torch.zeros_like(weight) for weight in weights]
        with untouched_statistics(self.model):
            for part in parts:
                loss, _ = self.loss(*part)
                gradients = torch.autograd.grad(loss * (len(part[0]) / count), weights)
                torch._foreach_add_(total, gradients)
        self.group.add(total)
        with awp.perturbed(weights, awp.perturbation(weights, total, self.settings.awp.gamma)):
            yield

    @contextmanager
    def _adding_up(self, *, last: bool) -> Iterator[None]:
        """Let processes exchange gradients only at the last part."""
        shared = self.shared_loss
        if isinstance(shared, DistributedDataParallel) and not last:
            with shared.no_sync():
                yield
        else:
            yield


class _Loss(nn.Module):
    """The loss of a regime as a module, because torch averages the gradients of a module's pass."""

    def __init__(self, model: nn.Module, regime: Regime, settings: TrainingSettings) -> None:
        super().__init__()
        self.model = model
        self.regime = regime
        self.settings = settings

    def forward(self, images: Tensor, adversarial: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.settings.train.precision, images.device):
            return self.regime.loss(self.model, images, adversarial, labels, self.settings)


def _passes(regime: Regime, statistics: str) -> Sequence[Seen] | None:
    """Return the passes that move the running statistics; None if they are those of the loss."""
    passes: dict[str, Sequence[Seen] | None] = {
        "loss": None,
        "attacked": ("attacked",),
        "clean": ("clean",),
        "published": regime.published_statistics,
    }
    return passes[statistics]


def _averaging_gradients(loss: _Loss) -> DistributedDataParallel:
    """Return a loss whose gradients are averaged over processes.

    ``ProcessGroup.average_statistics`` averages the running statistics.
    """
    with warnings.catch_warnings():
        # Older versions of torch do not know the new name of this argument.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(loss, broadcast_buffers=False)
