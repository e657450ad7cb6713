"""Accuracy under PGD and AutoAttack: the attacks, and a summary of their results."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from rift.artifacts import Array
from rift.config import Attack, AutoAttack, Evaluate
from rift.data.images import Images
from rift.evaluation import autoattack, pgd
from rift.evaluation.autoattack import evaluate_autoattack
from rift.evaluation.blocks import AttackProgress, Shard, Share, survived
from rift.evaluation.pgd import evaluate_pgd
from rift.progress import Progress, hidden

AttackKind = Literal["pgd", "autoattack"]
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
) -> dict[str, Tensor]:
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

    stages: dict[str, Tensor] = {}
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
                    seed=seed,
                    share=share,
                    progress=progress,
                )
    return stages


@dataclass(frozen=True)
class AdversarialResult:
    """The results of the attacks.

    Attributes:
        results: threat model, accuracy in percent and number of images, by kind of attack; for
            AutoAttack also the number of images that each attack broke.
        outcomes: whether each image survived, by kind of attack, and after each attack of
            AutoAttack: bool, N.
        masks_gradients: whether AutoAttack's own check for masked gradients warns.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, Array] = field(default_factory=dict)
    masks_gradients: bool = False


def summarize(
    stages: Mapping[str, Tensor], *, attack: Mapping[str, Any], restarts: int, settings: AutoAttack
) -> AdversarialResult:
    """Return a summary of the attacks.

    Args:
        stages: result of ``evaluate_adversarial`` for all images; shards are merged.
        attack: threat model and steps, as JSON values.
        restarts: number of random starts of PGD.
        settings: settings of AutoAttack.
    """
    outcomes: dict[str, Array] = {}
    results: dict[str, dict[str, Any]] = {}
    masked = False
    for kind, stage_broken_at in stages.items():
        names = autoattack.stages(settings) if kind == "autoattack" else pgd.STAGES
        after = survived(stage_broken_at, names)
        if kind == "pgd":
            results[kind] = {**attack, "restarts": restarts}
        else:
            outcomes |= {f"autoattack_{name}": left.cpu().numpy() for name, left in after.items()}
            results[kind] = {
                "eps": attack["eps"],
                **_stages_of_autoattack(stage_broken_at, after, settings),
            }
            masked = autoattack.masks_gradients(after)
        outcomes[kind] = after[names[-1]].cpu().numpy()
        results[kind] |= {
            "accuracy": 100 * outcomes[kind].mean(),
            "images": len(outcomes[kind]),
        }
    return AdversarialResult(results, outcomes, masked)


def _stages_of_autoattack(
    stage_broken_at: Tensor, after: Mapping[str, Tensor], settings: AutoAttack
) -> dict[str, Any]:
    names = autoattack.stages(settings)
    broken = {name: int((stage_broken_at == place).sum()) for place, name in enumerate(names)}
    return {
        "version": settings.version,
        "accuracy_after": {
            name: 100 * after[name].double().mean().item() for name in settings.attacks
        },
        "misclassified": broken.pop(autoattack.CLEAN),
        "broken_by": broken,
        "withstood": int((stage_broken_at == len(names)).sum()),
    }
