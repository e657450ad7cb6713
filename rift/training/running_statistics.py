"""Running statistics of batch norm: which images move them, and exact ones over all images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
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


class PooledStatistics:
    """Mean and variance of the inputs of every batch norm, over all images of several passes.

    Batches are pooled exactly (Chan et al. 1983), so the variance is that of all values, and
    includes the differences between the means of batches. A moving average does not contain them.

    Args:
        model: network. A batch norm without running statistics is not watched.

    Attributes:
        sums: number of values per channel (1), their mean and the sum of their squared deviations
            from it (one per channel each), float64, by name of the batch norm.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, _BatchNorm) and module.running_mean is not None
        }
        self.sums: dict[str, dict[str, Tensor]] = {
            name: {
                part: torch.zeros(
                    1 if part == "count" else norm.num_features,
                    dtype=torch.float64,
                    device=norm.running_mean.device if norm.running_mean is not None else None,
                )
                for part in ("count", "mean", "squares")
            }
            for name, norm in self._norms.items()
        }

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Add what the batch norms receive within the context; they normalise by the batch.

        Their running statistics do not change, and no other module changes its mode.
        """
        hooks = [
            norm.register_forward_pre_hook(partial(self._add, name))
            for name, norm in self._norms.items()
        ]
        modes = {norm: norm.training for norm in self._norms.values()}
        try:
            for norm in modes:
                norm.train()
                norm.track_running_stats = False
            yield
        finally:
            for norm, mode in modes.items():
                norm.train(mode)
                norm.track_running_stats = True
            for hook in hooks:
                hook.remove()

    def write(self) -> None:
        """Make them the running statistics; a batch norm that received nothing keeps its own."""
        for name, norm in self._norms.items():
            sums = self.sums[name]
            if sums["count"] < 2 or norm.running_mean is None or norm.running_var is None:
                continue
            norm.running_mean.copy_(sums["mean"])
            # Like torch, which normalises by the biased variance and records the unbiased one.
            norm.running_var.copy_(sums["squares"] / (sums["count"] - 1))

    def _add(self, name: str, _module: nn.Module, given: tuple[Tensor, ...]) -> None:
        sums, values = self.sums[name], given[0].detach().transpose(0, 1).flatten(1).double()
        count, added = sums["count"].clone(), values.shape[1]
        mean = values.mean(1)
        difference = mean - sums["mean"]
        sums["count"] += added
        sums["mean"] += difference * added / sums["count"]
        sums["squares"] += (values - mean[:, None]).square().sum(1)
        sums["squares"] += difference.square() * count * added / sums["count"]
