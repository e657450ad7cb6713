"""Which images move the running statistics of batch norm during training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Seen = Literal["clean", "attacked"]
"""Images of a pass that moves the running statistics."""


@contextmanager
def untouched_statistics(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norm fixed; it normalises according to its mode."""
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def move_statistics(
    model: nn.Module, clean: Tensor, attacked: Tensor, passes: Sequence[Seen]
) -> None:
    """Move the running statistics by passes of a batch, without gradients.

    Args:
        model: network in training mode.
        clean: clean images, float32 in [0, 1], N×C×H×W.
        attacked: adversarial images, likewise.
        passes: images of each pass, in order. Each pass counts 1/0.9 times as much as the pass
            before it, at the momentum 0.1 of batch norm.
    """
    images = {"clean": clean, "attacked": attacked}
    with torch.no_grad():
        for seen in passes:
            model(images[seen])
