"""Clean fine-tuning of some modules of a network (Zhu et al. 2023, section 4.2)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.config import Augment, Finetune
from rift.data.split import Split
from rift.evaluation.accuracy import correct, percent
from rift.models.modes import in_full, snapshot, trainable
from rift.progress import Progress, silent
from rift.seeds import generator
from rift.training.epoch import Epoch, Pass, Trained, arithmetic, go_through


def fine_tune(
    model: nn.Module,
    modules: Sequence[str],
    data: Split,
    validation: Split,
    settings: Finetune,
    augmentation: Augment,
    seed: int,
    progress: Progress = silent,
) -> Trained:
    """Fine-tune some modules on clean images with cross-entropy, all other weights fixed, and keep the best epoch.

    The epoch kept is the one of best standard accuracy on the selection split, of equal ones the earlier. (The paper keeps
    the one of best test accuracy.)

    Args:
        model: fine-tuned in place.
        modules: names of modules whose parameters are trained; an empty name stands for the whole network.
        data: training split, on the device of the model.
        validation: selection split, likewise.
        settings: optimiser, schedule and what batch norm does.
        augmentation: of training images.
        seed: of data order and augmentation.
        progress: called after every batch.

    Raises:
        RiftError: the loss is no longer finite.
    """
    stream = generator(seed, "fine-tuning", data.images.device)
    trained = [
        parameter
        for module in map(model.get_submodule, modules)
        # The output projection within torch's attention is measured, and chosen, apart from it.
        for parameter in module.parameters(recurse=not isinstance(module, nn.MultiheadAttention))
    ]
    optimizer = torch.optim.SGD(trained, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay)

    device = data.images.device
    in_bfloat16 = arithmetic(settings.precision, device) == "bfloat16"

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
            logits = in_full(model(images))
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def learning_rate(done: float) -> float:
        return settings.learning_rate * (0.1 if 2 * math.floor(done) >= settings.epochs else 1)

    history: list[Epoch] = []
    best = -1.0
    state: dict[str, Tensor] = {}
    kept = 0
    for epoch in range(1, settings.epochs + 1):
        model.train(settings.batch_norm == "train")
        here = Pass.begin(epoch, len(data.labels), stream)
        with trainable(model, trained):
            go_through(
                here,
                data,
                step,
                optimizer,
                learning_rate,
                augmentation,
                stream,
                batch_size=settings.batch_size,
                epochs=settings.epochs,
                progress=progress,
            )
        here.check_finite()
        model.eval()
        standard = percent(correct(model, validation))
        if standard > best:
            best, state, kept = standard, snapshot(model), epoch
        history.append(Epoch(epoch, optimizer.param_groups[0]["lr"], here.loss, here.accuracy, standard))
        progress(epoch, settings.epochs, f"accuracy {standard:.2f}% on the selection split", loss=here.loss)
    return Trained(state, history, kept)
