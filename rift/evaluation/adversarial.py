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
"""By kind of attack: ``stage_broken_at`` and ``done`` of its progress."""


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
    """Run attacks, and go on with those that were interrupted.

    Args:
        model: returns logits for images in [0, 1].
        test: the test split.
        attacks: kinds of attack to run.
        settings: ``pgd`` and ``autoattack``.
        attack: threat model and steps of PGD.
        seed: of the attacks.
        shard: which job of how many.
        kept: what an earlier process kept.
        keep: called after every block and attack with what another process needs to go on.
        show: function of the kind of attack that shows its progress within a context.

    Returns:
        By kind of attack, the stage that broke each image: int8, N.
    """
    state: Kept = dict(kept or {})

    def keep_one(kind: str, work: AttackProgress) -> None:
        state[kind] = {"stage_broken_at": work.stage_broken_at.cpu(), "done": work.done}
        keep(state)

    found: dict[str, Tensor] = {}
    for kind in attacks:
        before = None
        if kind in state:
            stages = state[kind]["stage_broken_at"].to(test.device)
            before = AttackProgress(stages, state[kind]["done"])
        share = Share(shard, before, partial(keep_one, kind))
        with show(kind) as progress:
            if kind == "pgd":
                found[kind] = evaluate_pgd(
                    model,
                    test.first(settings.pgd.images, "evaluate.pgd.images"),
                    settings=settings.pgd,
                    attack=attack,
                    seed=seed,
                    share=share,
                    progress=progress,
                )
            else:
                found[kind] = evaluate_autoattack(
                    model,
                    test.first(settings.autoattack.images, "evaluate.autoattack.images"),
                    settings=settings.autoattack,
                    eps=attack.eps,
                    seed=seed,
                    share=share,
                    progress=progress,
                )
    return found


@dataclass(frozen=True)
class AdversarialResult:
    """The results of the attacks.

    Attributes:
        results: by kind of attack: the threat model, accuracy in percent and number of images; for
            AutoAttack also how many images each attack broke.
        outcomes: bool, N, of every kind, and of AutoAttack after each of its attacks.
        masks_gradients: whether AutoAttack's own check for masked gradients warns.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, Array] = field(default_factory=dict)
    masks_gradients: bool = False


def summarize(
    found: Mapping[str, Tensor], *, attack: Mapping[str, Any], restarts: int, settings: AutoAttack
) -> AdversarialResult:
    """Summarise which images the attacks broke.

    Args:
        found: as ``evaluate_adversarial`` returns it, of all images.
        attack: threat model and steps, as JSON values.
        restarts: of PGD.
        settings: of AutoAttack.
    """
    outcomes: dict[str, Array] = {}
    results: dict[str, dict[str, Any]] = {}
    masked = False
    for kind, stage_broken_at in found.items():
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
