"""AutoAttack (Croce and Hein 2020) by pyautoattack: the standard version or some of its attacks."""

import torch
from torch import Tensor, nn

from rift.config import NORMS, AutoAttack, NormName
from rift.data.images import Images
from rift.errors import RiftError
from rift.evaluation.blocks import ALL, Share, blocks_of_shard
from rift.evaluation.stages import stages
from rift.models.modes import inference
from rift.models.requirements import as_logits, require_classes
from rift.progress import Progress, no_progress
from rift.seeds import generator, global_numbers_kept
from rift.thirdparty import redirect_messages


class ContiguousInputs(nn.Module):
    """A wrapper that gives pyautoattack contiguous gradients.

    pyautoattack assumes that images and gradients are contiguous. Flattening and unflattening the
    images makes their gradients contiguous, even if the network computes channels last.

    Args:
        model: returns logits for images in [0, 1]; it is set to eval mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the model."""
        return as_logits(self.model(images.flatten(1).unflatten(1, images.shape[1:])))


def evaluate_autoattack(
    model: nn.Module,
    data: Images,
    *,
    settings: AutoAttack,
    eps: float,
    norm: NormName = "linf",
    seed: int,
    share: Share = ALL,
    progress: Progress = no_progress,
) -> Tensor:
    """Run the attacks of AutoAttack on blocks of consecutive images.

    Each attack gets the images of a block that survived the attacks before it. Random numbers
    depend on seed, block and attack. The result of an image therefore depends neither on the shards
    nor on interruptions. The global random state is restored.

    Args:
        model: returns logits for images in [0, 1]; apgd-t needs at least 4 classes. Targeted
            attacks try up to 9 other classes.
        data: images and labels of all shards.
        settings: attacks, and the size of a block.
        eps: radius of the ball, in pixel values.
        norm: norm of the ball.
        seed: seed of the attacks.
        share: blocks of this job, and its progress so far.
        progress: called after every block and attack. Each message of pyautoattack is shown once.

    Returns:
        int8, N: place among ``stages`` of the stage that broke an image; the number of stages if
        the image survived all of them; ``stages.UNKNOWN`` if it belongs to another shard.

    Raises:
        RiftError: the model has too few classes.
    """
    from pyautoattack import AutoAttack as Runner

    names, device = stages("autoattack", settings), data.device
    work = share.progress(len(data), device)
    mine = blocks_of_shard(len(data), settings.batch_size, share.shard)
    steps = [(block, part, place) for block, part in mine for place in range(1, len(names))]

    def report(note: str = "") -> None:
        seen = work.stage_broken_at[work.stage_broken_at >= 0]
        robust = (seen == len(names)).double().mean() if len(seen) > 0 else None
        shown = {} if robust is None else {"robust_accuracy": 100 * robust}
        progress(work.done, len(steps), note, **shown)

    with inference(model), global_numbers_kept(device), redirect_messages(report, "auto-attack"):
        runner = Runner(
            ContiguousInputs(model), norm=NORMS[norm], eps=eps, version="standard", device=device
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
                    hits = as_logits(model(images)).argmax(1) == labels
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


@torch.no_grad()
def _classes(model: nn.Module, data: Images, settings: AutoAttack) -> int:
    """Return the number of classes, and raise an error if it is too small for the attacks."""
    logits = as_logits(model(data.up_to(1).floats()))
    classes = logits.shape[1]
    if "apgd-t" in settings.attacks and classes < 4:
        raise RiftError(
            f"the attack apgd-t of AutoAttack needs at least 4 classes, and the model has"
            f" {classes}; omit apgd-t in evaluate.autoattack.attacks"
        )
    require_classes(logits, int(data.labels.max()))
    return classes
