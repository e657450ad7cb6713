"""AutoAttack (Croce and Hein 2020), the standard version or some of its attacks, by the pyautoattack package."""

import torch
from torch import Tensor, nn

from rift.config import AutoAttack
from rift.data.images import Images
from rift.errors import RiftError
from rift.evaluation.blocks import ALL, Share, blocks_of_shard
from rift.models.modes import inference
from rift.progress import Progress, no_progress
from rift.seeds import generator
from rift.thirdparty import redirect_messages

CLEAN = "clean"
"""The stage before all attacks, which breaks images that are misclassified anyway."""


class ContiguousInputs(nn.Module):
    """A model in eval mode that takes contiguous images and returns contiguous gradients.

    pyautoattack takes both for contiguous. Flattening and unflattening the images makes their gradients
    so, even where the network computes channels last.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.flatten(1).unflatten(1, images.shape[1:]))
        return logits


def stages(settings: AutoAttack) -> tuple[str, ...]:
    """Return the stages that an image may be broken at, in their order: ``CLEAN`` and the attacks."""
    return (CLEAN, *settings.attacks)


def evaluate_autoattack(
    model: nn.Module,
    data: Images,
    *,
    settings: AutoAttack,
    eps: float,
    seed: int,
    share: Share = ALL,
    progress: Progress = no_progress,
) -> Tensor:
    """Attack blocks of consecutive images, attack after attack, each with the images that still stand.

    Random numbers depend on seed, block and attack, so that the result of an image depends neither on
    the shards nor on interruptions. The global random state is left as it was.

    Args:
        model: returns logits for images in [0, 1]: of at least 4 classes for apgd-t. Targeted attacks
            try up to 9 other classes.
        data: images and labels of all shards.
        settings: attacks, and the size of a block.
        eps: radius of the Linf ball, in pixel values.
        seed: of the attacks.
        share: which blocks are attacked.
        progress: called after every block and attack. Each message of pyautoattack is shown once.

    Returns:
        int8, N: place of the stage among ``stages`` that broke an image, their number if it survived
        all of them, or ``blocks.UNKNOWN`` if it belongs to another shard.

    Raises:
        RiftError: the model has too few classes.
    """
    from pyautoattack import AutoAttack as Runner

    names, device = stages(settings), data.device
    work = share.progress(len(data), device)
    mine = blocks_of_shard(len(data), settings.batch_size, share.shard)
    steps = [(block, part, place) for block, part in mine for place in range(1, len(names))]

    def report(note: str = "") -> None:
        seen = work.stage_broken_at[work.stage_broken_at >= 0]
        robust = (seen == len(names)).double().mean() if len(seen) > 0 else None
        shown = {} if robust is None else {"robust_accuracy": 100 * robust}
        progress(work.done, len(steps), note, **shown)

    random = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with inference(model), random, redirect_messages(report, "auto-attack"):
        runner = Runner(
            ContiguousInputs(model), norm="Linf", eps=eps, version="standard", device=device
        )
        classes = _classes(model, data, settings)
        runner.apgd_targeted.n_target_classes = min(9, classes - 1)
        runner.fab.n_target_classes = min(9, classes - 1)
        for block, part, place in steps[work.done :]:
            batch = data.take(part)
            images, labels = batch.floats(), batch.labels
            broken_at = work.stage_broken_at[part]
            if place == 1:
                with torch.no_grad():
                    hits = model(images).argmax(1) == labels
                broken_at[:] = torch.where(hits, len(names), 0)
            left = (broken_at == len(names)).nonzero()[:, 0]
            if len(left) > 0:
                purpose = f"autoattack, block {block}, {names[place]}"
                runner.attacks_to_run = [names[place]]
                runner.seed = generator(seed, purpose).initial_seed()
                _, predicted = runner.run_standard_evaluation(
                    images[left].contiguous(), labels[left], batch_size=len(left)
                )
                broken_at[left[predicted != labels[left]]] = place
            work.done += 1
            share.keep(work)
            report()
        report(", ".join(settings.attacks))
    return work.stage_broken_at


def masks_gradients(outcomes: dict[str, Tensor]) -> bool:
    """Return whether Square broke more than 0.2% of the images after attacks with gradients.

    This is AutoAttack's own check for masked gradients.

    Args:
        outcomes: as ``blocks.survived`` returns them.
    """
    before = [name for name in outcomes if name not in (CLEAN, "square")]
    if "square" not in outcomes or not before:
        return False
    broken = outcomes[before[-1]].double().mean() - outcomes["square"].double().mean()
    return bool(broken > 0.002)


@torch.no_grad()
def _classes(model: nn.Module, data: Images, settings: AutoAttack) -> int:
    """Count the classes, and make sure that there are enough of them."""
    classes: int = model(data.up_to(1).floats()).shape[1]
    if "apgd-t" in settings.attacks and classes < 4:
        raise RiftError(
            f"apgd-t, an attack of AutoAttack, needs at least 4 classes; the model has {classes}"
        )
    return classes
