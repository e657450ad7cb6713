"""Evaluation under PGD and AutoAttack: the attacks of a job."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import Tensor, nn

from rift.config import Attack, Evaluate
from rift.data.images import Images
from rift.evaluation.autoattack import evaluate_autoattack
from rift.evaluation.blocks import AttackProgress, Shard, Share
from rift.evaluation.pgd import evaluate_pgd
from rift.evaluation.stages import AttackKind
from rift.progress import Progress, hidden

Kept = dict[str, dict[str, Any]]
"""State of interrupted attacks: by kind, ``stage_broken_at`` and ``done`` of the progress."""


def evaluate_adversarial(
    model: nn.Module,
    test: Images,
    *,
    attacks: Sequence[AttackKind],
    settings: Evaluate,
    attack: Attack,
    seed: int,
    shard: Shard = (1, 1),
    kept: Kept | None = None,
    keep: Callable[[Kept], None] = lambda kept: None,
    show: Callable[[str], AbstractContextManager[Progress]] = hidden,
) -> dict[AttackKind, Tensor]:
    """Run attacks, and continue those that were interrupted.

    Args:
        model: returns logits for images in [0, 1].
        test: test split.
        attacks: kinds of attack to run.
        settings: settings of ``pgd`` and ``autoattack``.
        attack: threat model and steps of PGD.
        seed: seed of the attacks.
        shard: number of this job, from 1, and number of jobs.
        kept: state that an earlier process kept.
        keep: called after every block and attack with the state that another process needs to
            continue.
        show: function of the kind of attack that returns a context, which shows the progress.

    Returns:
        The stage that broke each image, by kind of attack: int8, N.

    Raises:
        RiftError: the test split has too few images, or the model too few classes.
    """
    state: Kept = dict(kept or {})

    def keep_one(kind: str, work: AttackProgress) -> None:
        state[kind] = {"stage_broken_at": work.stage_broken_at.cpu(), "done": work.done}
        keep(state)

    stages: dict[AttackKind, Tensor] = {}
    for kind in attacks:
        before = None
        if kind in state:
            broken_at = state[kind]["stage_broken_at"].to(test.device)
            before = AttackProgress(broken_at, state[kind]["done"])
        share = Share(shard, before, partial(keep_one, kind))
        with show(kind) as progress:
            if kind == "pgd":
                stages[kind] = evaluate_pgd(
                    model,
                    test.first(settings.pgd.images, "evaluate.pgd.images"),
                    settings=settings.pgd,
                    attack=attack,
                    seed=seed,
                    share=share,
                    progress=progress,
                )
            else:
                stages[kind] = evaluate_autoattack(
                    model,
                    test.first(settings.autoattack.images, "evaluate.autoattack.images"),
                    settings=settings.autoattack,
                    eps=attack.eps,
                    norm=attack.norm,
                    seed=seed,
                    share=share,
                    progress=progress,
                )
    return stages
