"""Module robust criticality, MRC (Zhu et al. 2023, Definition 3.1 and Algorithm 1)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks import pgd
from rift.config import Attack, Criticality
from rift.data.split import Split, in_order, to_float
from rift.models.modes import inference
from rift.progress import Progress, silent
from rift.seeds import generator
from rift.training.epoch import arithmetic


@dataclass(frozen=True)
class ModuleCriticality:
    """How much robustness hangs on one module.

    Attributes:
        module: its name.
        kind: conv or linear.
        parameters: entries of its weight.
        mrc: largest rise of the robust loss found in the weight ball, in nats; never negative, as the ball's centre counts.
        robust_loss: cross-entropy on the adversarial examples where that rise was found, in nats.
        robust_accuracy_drop: accuracy on the adversarial examples lost there, in percentage points.
        rank: place in rising order of mrc, from 1; of equal ones the earlier module first.
    """

    module: str
    kind: str
    parameters: int
    mrc: float
    robust_loss: float
    robust_accuracy_drop: float
    rank: int


def measured_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return every convolution and linear layer by its name, in the network's order.

    torch's own attention holds the projections to query, key and value as a bare parameter: it stands for them under its own
    name, before its ``out_proj``. (Where key or value differ in width from the query, it holds three, which are not measured.)
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        or (isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None)
    }


def measured_weight(module: nn.Module) -> nn.Parameter:
    """Return the weight of a measured module."""
    return module.get_parameter("in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight")


def adversarial_examples(
    model: nn.Module, data: Split, attack: Attack, seed: int, progress: Progress = silent
) -> Tensor:
    """Attack every image once with PGD: float32 in [0, 1], N×C×H×W."""
    starts = generator(seed, "criticality", data.images.device)
    done: list[Tensor] = []
    for images, labels in in_order(data):
        done.append(pgd(model, to_float(images), labels, **attack.model_dump(), generator=starts))
        progress(sum(map(len, done)), len(data.labels))
    return torch.cat(done)


def module_robust_criticality(
    model: nn.Module, adversarial: Tensor, labels: Tensor, settings: Criticality, progress: Progress = silent
) -> list[ModuleCriticality]:
    """Measure every convolution and linear layer, by the published procedure.

    MRC(i) = max over ‖Δθᵢ‖₂ ≤ ε‖θᵢ‖₂ of the robust loss at θ + Δθᵢ, minus the robust loss at θ. The maximum is searched with
    plain gradient ascent over batches; at the end of each pass the weight is projected into the ball and the loss over all
    images is taken. The largest of these counts, the centre's among them.

    Args:
        model: weights θ; it is as before afterwards. Batch norm stays in eval mode.
        adversarial: examples made against θ once (``rift.attacks.pgd``) and held fixed, float32 in [0, 1], N×C×H×W.
        labels: N.
        settings: ε, passes, step length, batch size and precision; ``split`` and ``images`` are the caller's.
        progress: called after each pass.

    Returns:
        A record a module, in the network's order.
    """
    modules = measured_modules(model)
    batches = list(zip(adversarial.split(settings.batch_size), labels.split(settings.batch_size), strict=True))
    found: dict[str, tuple[float, float, float]] = {}
    in_bfloat16 = arithmetic(settings.precision, adversarial.device) == "bfloat16"

    def logits_of(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=in_bfloat16):
            return cast("Tensor", model(images)).float()

    with inference(model):
        base_loss, base_accuracy = _robust_loss(logits_of, batches, logits_of(batches[0][0]))
        for number, (name, module) in enumerate(modules.items()):
            weight = measured_weight(module)
            theta = weight.detach().clone()
            radius = settings.epsilon * theta.norm()
            worst_loss, worst_accuracy = base_loss, base_accuracy
            try:
                weight.requires_grad_(True)
                logits = logits_of(batches[0][0])
                for epoch in range(1, settings.epochs + 1):
                    for step, (images, targets) in enumerate(batches):
                        if step > 0:
                            logits = logits_of(images)
                        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, targets), weight)
                        with torch.no_grad():
                            weight.add_(gradient, alpha=settings.learning_rate)
                    with torch.no_grad():
                        delta = weight - theta
                        weight.copy_(theta + delta * (radius / delta.norm().clamp(min=radius)))
                    # What the next pass begins with is also what this pass is judged by: the first batch, once.
                    logits = logits_of(batches[0][0])
                    loss, accuracy = _robust_loss(logits_of, batches, logits.detach())
                    if loss > worst_loss:
                        worst_loss, worst_accuracy = loss, accuracy
                    done = number * settings.epochs + epoch
                    progress(done, len(modules) * settings.epochs, mrc=worst_loss - base_loss, accuracy=accuracy)
            finally:
                weight.requires_grad_(False)
                weight.copy_(theta)
            found[name] = (worst_loss - base_loss, worst_loss, base_accuracy - worst_accuracy)
            note = f"{name}: {found[name][2]:.2f} points of robust accuracy"
            progress((number + 1) * settings.epochs, len(modules) * settings.epochs, note, mrc=found[name][0])
    rising = sorted(found, key=lambda name: found[name][0])
    return [
        ModuleCriticality(
            name,
            "conv" if isinstance(module, nn.Conv2d) else "linear",
            measured_weight(module).numel(),
            *found[name],
            rank=rising.index(name) + 1,
        )
        for name, module in modules.items()
    ]


@torch.no_grad()
def _robust_loss(
    logits_of: Callable[[Tensor], Tensor], batches: list[tuple[Tensor, Tensor]], first: Tensor
) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy in percent over all batches; the logits of the first are at hand."""
    loss, hits, count = 0.0, 0, 0
    for number, (images, labels) in enumerate(batches):
        logits = first if number == 0 else logits_of(images)
        loss += F.cross_entropy(logits, labels, reduction="sum").double().item()
        hits += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return loss / count, 100 * hits / count
