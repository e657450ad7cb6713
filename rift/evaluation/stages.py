"""What attacks found: the stage that broke each image, merged over jobs and summarized.

This module does not import torch, so that jobs that only merge or summarize start quickly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from rift.artifacts import Array
from rift.config import AutoAttack
from rift.errors import RiftError

AttackKind = Literal["pgd", "autoattack"]

UNKNOWN = -1
"""Stage of an image that has not been attacked yet, or that belongs to another job."""

CLEAN = "clean"
"""The stage before all attacks. It breaks the images that are misclassified without an attack."""


def stages(kind: AttackKind, settings: AutoAttack) -> tuple[str, ...]:
    """Return the stages that can break an image, in their order.

    Args:
        kind: ``pgd`` has a single stage; ``autoattack`` has ``CLEAN`` and its attacks.
        settings: settings of AutoAttack.
    """
    return ("pgd",) if kind == "pgd" else (CLEAN, *settings.attacks)


def join(parts: Sequence[Array]) -> Array:
    """Merge the results of several jobs.

    Args:
        parts: stages that broke the images, per job: int8, N.

    Returns:
        The stages that broke the images: int8, N.

    Raises:
        RiftError: an image is missing, or two jobs attacked it.
    """
    together = np.stack(parts)
    known = (together != UNKNOWN).sum(axis=0)
    if (known != 1).any():
        missing, twice = int((known == 0).sum()), int((known > 1).sum())
        raise RiftError(
            f"the shards are not complete: {missing} images are in no shard, {twice} in more than"
            " one; pass each shard once"
        )
    return np.asarray(together.max(axis=0))


def survived(stage_broken_at: Array, names: Sequence[str]) -> dict[str, Array]:
    """Return whether each image survived a stage and all stages before it, by stage: bool, N.

    Args:
        stage_broken_at: number of the stage that broke each image: int8, N.
        names: names of the stages in their order.
    """
    return {name: stage_broken_at > place for place, name in enumerate(names)}


def masks_gradients(outcomes: Mapping[str, Array]) -> bool:
    """Return whether Square broke more than 0.2% of the images after attacks with gradients.

    This is AutoAttack's own check for masked gradients.

    Args:
        outcomes: result of ``survived``: whether each image survived, by stage.
    """
    before = [name for name in outcomes if name not in (CLEAN, "square")]
    if "square" not in outcomes or not before:
        return False
    return bool(outcomes[before[-1]].mean() - outcomes["square"].mean() > 0.002)


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
    broken_at: Mapping[AttackKind, Array],
    *,
    attack: Mapping[str, Any],
    restarts: int,
    settings: AutoAttack,
) -> AdversarialResult:
    """Return a summary of the attacks.

    Args:
        broken_at: stage that broke each image, by kind of attack, int8, N; shards are merged.
        attack: threat model and steps, as JSON values.
        restarts: number of random starts of PGD.
        settings: settings of AutoAttack.
    """
    outcomes: dict[str, Array] = {}
    results: dict[str, dict[str, Any]] = {}
    masked = False
    for kind, stage_broken_at in broken_at.items():
        names = stages(kind, settings)
        after = survived(stage_broken_at, names)
        if kind == "pgd":
            results[kind] = {**attack, "restarts": restarts}
        else:
            outcomes |= {f"autoattack_{name}": left for name, left in after.items()}
            results[kind] = {
                **{key: attack[key] for key in ("norm", "eps") if key in attack},
                **_stages_of_autoattack(stage_broken_at, after, settings),
            }
            masked = masks_gradients(after)
        outcomes[kind] = after[names[-1]]
        results[kind] |= {
            "accuracy": 100 * outcomes[kind].mean(),
            "images": len(outcomes[kind]),
        }
    return AdversarialResult(results, outcomes, masked)


def _stages_of_autoattack(
    stage_broken_at: Array, after: Mapping[str, Array], settings: AutoAttack
) -> dict[str, Any]:
    names = stages("autoattack", settings)
    broken = {name: int((stage_broken_at == place).sum()) for place, name in enumerate(names)}
    return {
        "version": settings.version,
        "accuracy_after": {name: 100 * float(after[name].mean()) for name in settings.attacks},
        "misclassified": broken.pop(CLEAN),
        "broken_by": broken,
        "withstood": int((stage_broken_at == len(names)).sum()),
    }
