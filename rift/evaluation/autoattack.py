"""AutoAttack (Croce and Hein 2020), standard version, by the pyautoattack package."""

import logging

import torch
from torch import Tensor, nn

from rift.config import AutoAttack
from rift.data.split import Split, to_float
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
        progress: called after each attack.

    Returns:
        By attack, in the order they are run: bool, N, whether the image withstood this attack and those before it (an image
        once broken is not attacked again). The last entry is AutoAttack's outcome: the worst case over all four.
    """
    from pyautoattack import AutoAttack as Runner

    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    images = to_float(data.images)
    outcomes: dict[str, Tensor] = {}
    robust = torch.arange(len(images), device=images.device)
    cuda = [images.device] if images.device.type == "cuda" else []
    with inference(model), torch.random.fork_rng(devices=cuda):
        with torch.no_grad():
            robust = robust[model(images).argmax(1) == data.labels]
        for number, name in enumerate(ATTACKS, start=1):
            if len(robust) > 0:
                runner = Runner(model, norm="Linf", eps=eps, version="standard", seed=seed, device=images.device)
                runner.attacks_to_run = [name]
                _, predicted = runner.run_standard_evaluation(
                    images[robust], data.labels[robust], batch_size=settings.batch_size
                )
                robust = robust[predicted == data.labels[robust]]
            outcomes[name] = torch.zeros(len(images), dtype=torch.bool, device=images.device)
            outcomes[name][robust] = True
            accuracy = 100 * len(robust) / len(images)
            progress(number, len(ATTACKS), name, robust_accuracy=accuracy)
    return outcomes
