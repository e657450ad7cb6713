"""A moving average of the weights (EMA), evaluated beside them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rift.models.state import snapshot


class Average:
    """An exponential moving average of a model's weights and running statistics.

    After t steps the decay is min(decay, (1 + t) / (10 + t)): the random weights of the start are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = snapshot(model)

    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        pairs = [(self.state[name], value.detach()) for name, value in model.state_dict().items()]
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([old for old, _ in floating], [new for _, new in floating], 1 - decay)
        for old, new in pairs:
            if not old.is_floating_point():
                old.copy_(new)

    def load(self, steps: int, state: Mapping[str, Tensor]) -> None:
        """Go on from an earlier average."""
        self.steps = steps
        self.state = {
            name: state[name].to(value.device).clone() for name, value in self.state.items()
        }

    @contextmanager
    def within(self, model: nn.Module) -> Iterator[None]:
        """The averaged weights in the model for a while, then exactly its own again."""
        own = snapshot(model)
        model.load_state_dict(self.state)
        try:
            yield
        finally:
            model.load_state_dict(own)
