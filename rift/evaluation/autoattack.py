"""AutoAttack (Croce and Hein 2020) by pyautoattack: the standard version or some of its attacks."""

import torch
from torch import Tensor, nn

from rift.config import NORMS, AutoAttack, AutoAttackName, NormName
from rift.data.images import Images
from rift.device import autocast
from rift.errors import RiftError
from rift.evaluation.blocks import ALL, Share, blocks_of_shard
from rift.evaluation.stages import stages
from rift.models.folding import folded
from rift.models.modes import inference
from rift.models.requirements import PROBED, as_logits, require_classes
from rift.progress import Progress, no_progress
from rift.seeds import generator, global_numbers_kept
from rift.thirdparty import redirect_messages


class ContiguousInputs(nn.Module):
    """A wrapper that gives pyautoattack contiguous gradients.

    pyautoattack assumes that images and gradients are contiguous. Flattening and unflattening the
    images makes their gradients contiguous, even if the network computes channels last.

    Args:
        model: returns logits for images in [0, 1]; it is set to eval mode.

    Attributes:
        precision: precision of the next passes.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.precision = "float32"
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the model, float32."""
        with autocast(self.precision, images.device):
            return as_logits(self.model(images.flatten(1).unflatten(1, images.shape[1:])))


class Attacks:
    """The attacks of pyautoattack's standard version on one network.

    Args:
        model: returns logits for images in [0, 1]; in eval mode.
        norm: norm of the ball.
        eps: radius of the ball, in pixel values.
        classes: number of classes; targeted attacks try up to 9 others.
        device: device of the network.
    """

    def __init__(
        self, model: nn.Module, *, norm: NormName, eps: float, classes: int, device: torch.device
    ) -> None:
        from pyautoattack import AutoAttack as Runner

        self._model = ContiguousInputs(model)
        self._runner = Runner(
            self._model, norm=NORMS[norm], eps=eps, version="standard", device=device
        )
        self._runner.apgd_targeted.n_target_classes = min(9, classes - 1)
        self._runner.fab.n_target_classes = min(9, classes - 1)

    def breaks(
        self, name: AutoAttackName, images: Tensor, labels: Tensor, *, seed: int, precision: str
    ) -> Tensor:
        """Return which images an attack breaks: bool, N.

        An attack in bfloat16 breaks an image only if the image that it found is misclassified in
        float32. If it is not, the attack is repeated in float32.

        Args:
            name: attack.
            images: N×C×H×W, in [0, 1]; classified correctly in float32.
            labels: N.
            seed: seed of the attack.
            precision: precision of the search.
        """
        broken = torch.zeros_like(labels, dtype=torch.bool)
        left = torch.arange(len(labels), device=labels.device)
        for searched_in in dict.fromkeys((precision, "float32")):
            if len(left) == 0:
                break
            self._runner.attacks_to_run = [name]
            self._runner.seed = seed
            self._model.precision = searched_in
            found, predicted = self._runner.run_standard_evaluation(
                images[left].contiguous(), labels[left], batch_size=len(left)
            )
            self._model.precision = "float32"
            claims = predicted != labels[left]
            left, found = left[claims], found[claims]
            if searched_in != "float32" and len(left) > 0:
                with torch.no_grad():
                    holds = self._model(found).argmax(1) != labels[left]
                broken[left[holds]] = True
                left = left[~holds]
            else:
                broken[left] = True
        return broken


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
    names, device = stages("autoattack", settings), data.device
    work = share.progress(len(data), device)
    mine = blocks_of_shard(len(data), settings.batch_size, share.shard)
    steps = [(block, part, place) for block, part in mine for place in range(1, len(names))]

    def report(note: str = "") -> None:
        seen = work.stage_broken_at[work.stage_broken_at >= 0]
        robust = (seen == len(names)).double().mean() if len(seen) > 0 else None
        shown = {} if robust is None else {"robust_accuracy": 100 * robust}
        progress(work.done, len(steps), note, **shown)

    probe = data.up_to(PROBED).floats()
    with (
        inference(model),
        folded(model, probe),
        global_numbers_kept(device),
        redirect_messages(report, "auto-attack"),
    ):
        classes = _classes(model, data, settings)
        attacks = Attacks(model, norm=norm, eps=eps, classes=classes, device=device)
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
                broken = attacks.breaks(
                    settings.attacks[place - 1],
                    images[left],
                    labels[left],
                    seed=generator(seed, purpose).initial_seed(),
                    precision=settings.precision,
                )
                broken_at[left[broken]] = place
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
