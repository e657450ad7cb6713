"""AutoAttack (Croce and Hein 2020), standard version, by the pyautoattack package."""

import logging

import torch
from torch import Tensor, nn

from rift.config import AutoAttack
from rift.data.split import Split, to_float
from rift.errors import RiftError
from rift.evaluation.accuracy import correct
from rift.models.modes import inference
from rift.progress import Progress, silent

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")


def withstands_autoattack(
    model: nn.Module, data: Split, settings: AutoAttack, *, eps: float, seed: int, progress: Progress = silent
) -> dict[str, Tensor]:
    """Say of every image whether the model still classifies it correctly after each attack of the standard version.

    Args:
        model: gives at least 4 logits for images in [0, 1]; the targeted attacks go through up to 9 other classes.
        data: images and labels.
        settings: batch size.
        eps: radius of the Linf ball, in pixel values.
        seed: of the attacks; the global random state is left as it was.
        progress: called after every batch of every attack.

    Returns:
        By attack, in the order they are run: bool, N, whether the image withstood this attack and those before it (an image
        once broken is not attacked again). The last entry is AutoAttack's outcome: the worst case over all four.

    Raises:
        RiftError: the model has fewer than 4 classes.
    """
    from pyautoattack import AutoAttack as Runner

    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    device = data.images.device

    def plainly_laid_out(images: Tensor) -> Tensor:
        # pyautoattack takes images and their gradients for contiguous; on the way back through flatten the latter become so,
        # though the network computes channels last.
        logits: Tensor = model(images.flatten(1).unflatten(1, images.shape[1:]))
        return logits

    outcomes: dict[str, Tensor] = {}
    with inference(model), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        with torch.no_grad():
            classes = model(to_float(data.images[:1])).shape[1]
        if classes < 4:
            raise RiftError(f"AutoAttack, standard version, wants at least 4 classes; the model has {classes}")
        runner = Runner(plainly_laid_out, norm="Linf", eps=eps, version="standard", seed=seed, device=device)
        runner.apgd_targeted.n_target_classes = runner.fab.n_target_classes = min(9, classes - 1)
        robust = correct(model, data).nonzero()[:, 0]
        for number, name in enumerate(ATTACKS):
            runner.attacks_to_run = [name]
            left, seen = [robust[:0]], 0
            for batch in robust.split(settings.batch_size) if len(robust) > 0 else ():
                images, labels = to_float(data.images[batch]).contiguous(), data.labels[batch]
                _, predicted = runner.run_standard_evaluation(images, labels, batch_size=len(batch))
                left.append(batch[predicted == labels])
                seen += len(batch)
                done = number + seen / len(robust)
                progress(done, len(ATTACKS), withstood=100 * sum(map(len, left)) / seen)
            robust = torch.cat(left)
            outcomes[name] = torch.zeros(len(data.labels), dtype=torch.bool, device=device)
            outcomes[name][robust] = True
            progress(number + 1, len(ATTACKS), name, robust_accuracy=100 * len(robust) / len(data.labels))
    return outcomes
