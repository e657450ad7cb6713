"""Evaluation under PGD: the worst of several random starts."""

import torch
from torch import Tensor, nn

from rift.config import Attack, Pgd
from rift.data.images import Images
from rift.evaluation.accuracy import withstands_pgd
from rift.evaluation.blocks import ALL, Share, blocks_of_shard
from rift.progress import Progress, no_progress
from rift.seeds import generator


def evaluate_pgd(
    model: nn.Module,
    data: Images,
    *,
    settings: Pgd,
    attack: Attack,
    seed: int,
    share: Share = ALL,
    progress: Progress = no_progress,
) -> Tensor:
    """Run PGD on blocks of consecutive images, each block from its own random starts.

    Args:
        model: returns logits for images in [0, 1].
        data: images and labels of all shards.
        settings: restarts, and the size of a block.
        attack: threat model and steps.
        seed: seed of the random starts, which also depend on the block.
        share: blocks of this job, and its progress so far.
        progress: called after every block.

    Returns:
        int8, N: 0 if an image is broken, 1 if it survived, ``stages.UNKNOWN`` if it belongs to
        another shard.
    """
    work = share.progress(len(data), data.device)
    mine = blocks_of_shard(len(data), settings.batch_size, share.shard)
    for block, part in mine[work.done :]:
        starts = generator(seed, f"evaluation, block {block}", data.device)
        survived = withstands_pgd(
            model, data.take(part), attack=attack, restarts=settings.restarts, generator=starts
        )
        work.stage_broken_at[part] = survived.to(torch.int8)
        work.done += 1
        share.keep(work)
        seen = work.stage_broken_at[work.stage_broken_at >= 0]
        progress(work.done, len(mine), accuracy=100 * seen.double().mean())
    return work.stage_broken_at
