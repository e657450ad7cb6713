"""AutoAttack (Croce and Hein 2020), standard version or some of its attacks, by the pyautoattack package."""

import torch
from torch import Tensor, nn

from rift.compatibility import heard
from rift.config import AutoAttack
from rift.data.split import Split, to_float
from rift.errors import RiftError
from rift.evaluation.blocks import Keep, Shard, Work, deal, forget
from rift.models.modes import inference
from rift.progress import Progress, silent
from rift.seeds import generator

CLEAN = "clean"
"""The stage before all attacks, at which misclassified images fall."""


class PlainlyLaidOut(nn.Module):
    """A model as pyautoattack wants it, in eval mode.

    It takes images and their gradients for contiguous; on the way back through flatten the latter become so, though the network
    computes channels last.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.flatten(1).unflatten(1, images.shape[1:]))
        return logits


def stages(settings: AutoAttack) -> tuple[str, ...]:
    """Name the stages that an image may fall at, in their order: ``CLEAN`` and the attacks."""
    return (CLEAN, *settings.attacks)


def attack(
    model: nn.Module,
    data: Split,
    settings: AutoAttack,
    *,
    eps: float,
    seed: int,
    shard: Shard = (1, 1),
    work: Work | None = None,
    keep: Keep = forget,
    progress: Progress = silent,
) -> Tensor:
    """Attack blocks of consecutive images, attack after attack, each with the images that still stand.

    Random numbers depend on seed, block and attack, so that an image's fate does not depend on the shards or on interruptions.

    Args:
        model: gives logits for images in [0, 1]: for apgd-t at least 4. Targeted attacks go through up to 9 other classes.
        data: images and labels, of all shards.
        settings: attacks, and the size of a block.
        eps: radius of the Linf ball, in pixel values.
        seed: of the attacks; the global random state is left as it was.
        shard: whose blocks are attacked.
        work: what an earlier call with the same arguments kept, to go on from it; it is moved along in place.
        keep: called after every block and attack.
        progress: likewise. What pyautoattack prints, logs and warns of comes as notes, each of them once.

    Returns:
        Fate of every image: int8, N, the place of the stage it fell at among ``stages``, their number if it withstood all of
        them, or ``blocks.UNKNOWN`` if it belongs to another shard.

    Raises:
        RiftError: the model has too few classes.
    """
    from pyautoattack import AutoAttack as Runner

    names, device = stages(settings), data.images.device
    work = work or Work.begin(len(data.labels), device)
    mine = deal(len(data.labels), settings.batch_size, shard)
    steps = [(block, part, place) for block, part in mine for place in range(1, len(names))]

    def report(note: str = "") -> None:
        seen = work.fates[work.fates >= 0]
        shown = {"robust_accuracy": 100 * (seen == len(names)).double().mean()} if len(seen) > 0 else {}
        progress(work.done, len(steps), note, **shown)

    random = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with inference(model), random, heard(report, "auto-attack"):
        runner = Runner(PlainlyLaidOut(model), norm="Linf", eps=eps, version="standard", device=device)
        classes = _classes(model, data, settings)
        runner.apgd_targeted.n_target_classes = runner.fab.n_target_classes = min(9, classes - 1)
        for block, part, place in steps[work.done :]:
            images, labels, fates = to_float(data.images[part]), data.labels[part], work.fates[part]
            if place == 1:
                with torch.no_grad():
                    hits = model(images).argmax(1) == labels
                fates[:] = torch.where(hits, len(names), 0)
            left = (fates == len(names)).nonzero()[:, 0]
            if len(left) > 0:
                runner.attacks_to_run = [names[place]]
                runner.seed = generator(seed, f"autoattack, block {block}, {names[place]}").initial_seed()
                _, predicted = runner.run_standard_evaluation(
                    images[left].contiguous(), labels[left], batch_size=len(left)
                )
                fates[left[predicted != labels[left]]] = place
            work.done += 1
            keep(work)
            report()
        report(", ".join(settings.attacks))
    return work.fates


def masks_gradients(outcomes: dict[str, Tensor]) -> bool:
    """Say whether Square broke more than 0.2% of the images after three attacks with gradients (AutoAttack's own check).

    Args:
        outcomes: of ``withstood``.
    """
    before = [name for name in outcomes if name not in (CLEAN, "square")]
    if "square" not in outcomes or not before:
        return False
    fallen = outcomes[before[-1]].double().mean() - outcomes["square"].double().mean()
    return bool(fallen > 0.002)


@torch.no_grad()
def _classes(model: nn.Module, data: Split, settings: AutoAttack) -> int:
    """Count the classes, and make sure that there are enough of them."""
    classes: int = model(to_float(data.images[:1])).shape[1]
    if "apgd-t" in settings.attacks and classes < 4:
        raise RiftError(f"apgd-t, an attack of AutoAttack, wants at least 4 classes; the model has {classes}")
    return classes
