"""A regime may wrap the network that it trains: ``prepare`` wraps, ``kept`` unwraps."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from rift.config import Attack, Augment, Train, TrainingSettings
from rift.data.images import Images
from rift.training.history import Trained
from rift.training.regimes import REGIMES, Regime
from rift.training.trainer import train

SETTINGS = TrainingSettings(
    train=Train(epochs=2, batch_size=64, learning_rate=0.05, averaging=0.9),
    attack=Attack(eps=0.1, step=0.05, steps=2),
    augment=Augment(crop=1, flip=False),
)


class Wrapped(nn.Module):
    """A network inside another module, so that all of its names gain a prefix."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inside(images)
        return logits


def unwrapped(model: nn.Module) -> Mapping[str, Tensor]:
    return model.get_submodule("inside").state_dict()


def run(model: nn.Module, digits: Images, regime: Regime) -> Trained:
    data, validation = digits.up_to(192), digits.take(slice(200, 300))
    return train(model, data, validation, regime=regime, settings=SETTINGS, seed=0)


def test_a_regime_that_wraps_the_network_keeps_the_plain_one_bit_for_bit(
    resnet8: nn.Module, digits: Images
) -> None:
    """Averaged weights and the choice of a checkpoint use the hooks too."""
    before = {name: value.clone() for name, value in resnet8.state_dict().items()}
    plain = run(resnet8, digits, REGIMES["pgd"])
    resnet8.load_state_dict(before)
    wrapped = run(resnet8, digits, replace(REGIMES["pgd"], prepare=Wrapped, kept=unwrapped))
    assert list(wrapped.state) == list(plain.state)
    assert all(torch.equal(wrapped.state[name], value) for name, value in plain.state.items())
    assert (wrapped.kept, wrapped.averaged) == (plain.kept, plain.averaged)
