"""An exponential moving average (EMA) of the weights, evaluated next to the weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rift.models.state import snapshot


class Average:
    """An exponential moving average of a model's weights and running statistics.

    After t steps the decay is min(decay, (1 + t) / (10 + t)). The average therefore forgets the
    random weights of the start soon.

    Args:
        model: network whose weights are averaged.
        decay: largest decay per step, in 0 … 1.

    Attributes:
        decay: largest decay per step.
        steps: number of steps so far.
        state: averaged state dict.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = snapshot(model)

    def update(self, model: nn.Module) -> None:
        """Add the weights of the model after a step to the average."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        pairs = [(self.state[name], value.detach()) for name, value in model.state_dict().items()]
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([old for old, _ in floating], [new for _, new in floating], 1 - decay)
        for old, new in pairs:
            if not old.is_floating_point():
                old.copy_(new)

    def load(self, steps: int, state: Mapping[str, Tensor]) -> None:
        """Continue an earlier average.

        Args:
            steps: number of its steps.
            state: its state dict.
        """
        self.steps = steps
        self.state = {
            name: state[name].to(value.device).clone() for name, value in self.state.items()
        }

    @contextmanager
    def within(self, model: nn.Module) -> Iterator[None]:
        """Put the averaged weights into the model, and restore its own weights at the end."""
        own = snapshot(model)
        model.load_state_dict(self.state)
        try:
            yield
        finally:
            model.load_state_dict(own)
