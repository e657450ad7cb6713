"""The step of one batch: attack, weight perturbation, loss, gradients.

``BatchGradient`` reads from top to bottom. It computes a batch in parts, and shares it with other processes, if asked.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rift.attacks.inner import INNER, draw_noise, resolve
from rift.config import TrainingSettings
from rift.device import autocast
from rift.models.modes import inference
from rift.training import awp
from rift.training.parallel import ProcessGroup
from rift.training.regimes import Regime

Part = tuple[Tensor, Tensor, Tensor]  # clean images, adversarial images, labels


class BatchGradient:
    """Computes the gradients of a batch.

    Args:
        model: in training mode when it is called.
        regime: whose loss and attack are used.
        settings: of the regime, the inner attack, precision and parts.
        stream: random numbers of the inner attack's noise, on the device of the images.
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
        self.loss = _Loss(model, regime, settings)
        self.shared_loss = _averaging_gradients(self.loss) if group.size > 1 else self.loss

    def __call__(self, images: Tensor, labels: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Add to the gradients of the weights.

        Args:
            images: float32 in [0, 1], N×C×H×W.
            labels: N.
            epoch: number, from 1; weights are perturbed after the epochs of ``awp.warmup``.

        Returns:
            Mean loss, and how many images were classified correctly.
        """
        attacks = self.regime.objective is not None
        noise = draw_noise(images, self.attack, self.stream) if attacks else images
        parts = [
            (clean, self._attacked(clean, target, start), target)
            for clean, target, start in self._pieces(images, labels, noise)
        ]

        count, outcome = len(labels), torch.zeros(2, device=images.device)  # mean loss, hits
        with self._perturbed_weights(parts, count, epoch):
            for number, part in enumerate(parts, start=1):
                with self._adding_up(last=number == len(parts)):
                    loss, logits = self.shared_loss(*part)
                    share = len(part[0]) / count
                    # Processes average their gradients; each of them is a share of the batch's.
                    (loss * (share * self.group.size)).backward()
                hits = (logits.detach().argmax(1) == part[2]).sum()
                outcome += torch.stack([loss.detach() * share, hits])

        self.group.add([outcome])
        if images.device.type != "cuda":
            self.group.average_statistics(self.model)
        return outcome[0], outcome[1].long()

    def _pieces(
        self, images: Tensor, labels: Tensor, noise: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield this process's share of a batch in parts: as even as can be, none empty.

        All processes have equally many parts: each is a forward pass that all do together.
        """
        cuts = max(1, min(self.settings.train.accumulate, len(labels) // self.group.size))
        wholes = (images, labels, noise)
        yield from zip(
            *(self.group.share(whole).tensor_split(cuts) for whole in wholes), strict=True
        )

    def _attacked(self, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        if self.regime.objective is None:
            return images
        with inference(self.model), autocast(self.settings.train.precision, images.device):
            with torch.no_grad():
                objective = self.regime.objective(self.model, images, labels)
            raise_objective = INNER[self.attack.method]
            return raise_objective(self.model, images, objective, noise, self.attack)

    @contextmanager
    def _perturbed_weights(self, parts: Sequence[Part], count: int, epoch: int) -> Iterator[None]:
        """Move the weights along the ascent of the whole batch's loss for a while (AWP)."""
        if not self.regime.perturbs_weights or epoch <= self.settings.awp.warmup:
            yield
            return
        weights = awp.perturbed_weights(self.model)
        total = [torch.zeros_like(weight) for weight in weights]
        with awp.untouched_statistics(self.model):
            for part in parts:
                loss, _ = self.loss(*part)
                gradients = torch.autograd.grad(loss * (len(part[0]) / count), weights)
                torch._foreach_add_(total, gradients)
        self.group.add(total)
        with awp.perturbed(weights, awp.perturbation(weights, total, self.settings.awp.gamma)):
            yield

    @contextmanager
    def _adding_up(self, *, last: bool) -> Iterator[None]:
        """Let processes exchange gradients at the last part only."""
        shared = self.shared_loss
        if isinstance(shared, DistributedDataParallel) and not last:
            with shared.no_sync():
                yield
        else:
            yield


class _Loss(nn.Module):
    """The loss of a regime as a module: its one forward pass is what processes share gradients of."""

    def __init__(self, model: nn.Module, regime: Regime, settings: TrainingSettings) -> None:
        super().__init__()
        self.model = model
        self.regime = regime
        self.settings = settings

    def forward(self, images: Tensor, adversarial: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.settings.train.precision, images.device):
            return self.regime.loss(self.model, images, adversarial, labels, self.settings)


def _averaging_gradients(loss: _Loss) -> DistributedDataParallel:
    """Let processes average the gradients of a loss; running statistics are averaged elsewhere."""
    with warnings.catch_warnings():
        # The argument's new name is unknown to older versions of torch.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(loss, broadcast_buffers=False)
