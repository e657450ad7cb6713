"""The gradients of one batch: inner attack, weight perturbation, loss; in parts and by several processes if asked."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rift.attacks.inner import INNER, draw, settle
from rift.config import RunSettings
from rift.models.modes import inference
from rift.training import Regime, awp
from rift.training.epoch import arithmetic
from rift.training.parallel import Team

Part = tuple[Tensor, Tensor, Tensor]  # clean images, adversarial images, labels


class _Loss(nn.Module):
    """The loss of a regime as a module, so that every gradient that processes share comes from one forward pass of it."""

    def __init__(self, model: nn.Module, regime: Regime, settings: RunSettings, in_bfloat16: bool) -> None:
        super().__init__()
        self.model = model
        self.regime = regime
        self.settings = settings
        self.in_bfloat16 = in_bfloat16

    def forward(self, images: Tensor, adversarial: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # A context of its own for every pass: autocast remembers weights, and forgets them only where it ends.
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            return self.regime.loss(self.model, images, adversarial, labels, self.settings)


def _share(loss_of: _Loss) -> DistributedDataParallel:
    """Let processes average the gradients of a loss; running statistics are seen to elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the argument's new name is unknown to older versions of torch
        return DistributedDataParallel(loss_of, broadcast_buffers=False)


def gradients_of(
    model: nn.Module, regime: Regime, settings: RunSettings, device: torch.device, stream: torch.Generator, team: Team
) -> Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]]:
    """Make the function that computes the gradients of a batch.

    Args:
        model: in training mode when the function is called.
        regime: whose loss it is.
        settings: of the regime, the inner attack, precision and parts.
        device: of model and images.
        stream: of the inner attack's noise.
        team: processes that share every batch.

    Returns:
        Function of images (float32 in [0, 1]), labels, and whether weights are perturbed now, if the regime does so. It adds
        to the gradients of the weights and returns the mean loss and how many images were classified correctly.
    """
    inner = settle(settings.inner, settings.attack)
    loss_of = _Loss(model, regime, settings, arithmetic(settings.train.precision, device) == "bfloat16")
    shared = _share(loss_of) if team.size > 1 else loss_of

    def attacked(images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        if regime.objective is None:
            return images
        with inference(model), torch.autocast(device.type, torch.bfloat16, enabled=loss_of.in_bfloat16):
            with torch.no_grad():
                objective = regime.objective(model, images, labels)
            return INNER[inner.method](model, images, objective, noise, inner)

    def ascent(parts: Sequence[Part], count: int) -> list[Tensor]:
        """The step that raises the loss of the whole batch, for every weight that is perturbed."""
        weights = awp.perturbed_weights(model)
        total = [torch.zeros_like(weight) for weight in weights]
        with awp.untouched_statistics(model):
            for part in parts:
                loss, _ = loss_of(*part)
                found = torch.autograd.grad(loss * (len(part[0]) / count), weights)
                torch._foreach_add_(total, found)
        team.add(total)
        return awp.perturbation(weights, total, settings.awp.gamma)

    @contextmanager
    def apart(last: bool) -> Iterator[None]:
        """Processes add up their gradients at the last part only."""
        with nullcontext() if last or not isinstance(shared, DistributedDataParallel) else shared.no_sync():
            yield

    def gradients(images: Tensor, labels: Tensor, perturb: bool) -> tuple[Tensor, Tensor]:
        noise = images if regime.objective is None else draw(images, inner, stream)
        count = len(labels)
        # As even as can be, none empty, and as many for every process: each part is a forward pass that all do together.
        cuts = max(1, min(settings.train.accumulate, count // team.size))
        pieces = zip(*(team.share(whole).tensor_split(cuts) for whole in (images, labels, noise)), strict=True)
        parts = [(piece, attacked(piece, target, start), target) for piece, target, start in pieces]
        moved = regime.perturbs_weights and perturb
        # [mean loss, hits] of the batch.
        outcome = torch.zeros(2, device=device)
        with awp.perturbed(awp.perturbed_weights(model), ascent(parts, count)) if moved else nullcontext():
            for number, part in enumerate(parts, start=1):
                with apart(number == len(parts)):
                    loss, logits = shared(*part)
                    share = len(part[0]) / count
                    # Processes average their gradients, each of which is a share of the batch's.
                    (loss * (share * team.size)).backward()
                outcome += torch.stack([loss.detach() * share, (logits.detach().argmax(1) == part[2]).sum()])
        team.add([outcome])
        if device.type != "cuda":
            team.average_statistics(model)
        return outcome[0], outcome[1].long()

    return gradients
