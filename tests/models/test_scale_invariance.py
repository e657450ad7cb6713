"""Weights whose scale batch norm cancels are found by a pass, whatever their names."""

import copy

import pytest
import torch
from torch import nn

from rift import models
from rift.config import ArchitectureName
from rift.models.scale_invariance import scale_invariant_weights


class Odd(nn.Module):
    """A network whose names and classes of modules say nothing about what follows what."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(1, 4, 3, bias=True)
        self.first = nn.BatchNorm2d(4)
        self.unused = nn.Conv2d(1, 4, 3)
        self.parts = nn.ModuleList(
            [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 6), nn.GroupNorm(2, 6)]
        )
        self.top = nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self.first(self.last(images)).relu().mean((2, 3))
        for part in self.parts:
            values = part(values)
        logits: torch.Tensor = self.top(values)
        return logits


def test_layers_are_found_by_what_follows_them() -> None:
    model = Odd()
    found = scale_invariant_weights(model, torch.rand(2, 1, 8, 8))
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert [names[weight] for weight in found] == ["last.weight", "parts.0.weight"]
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["resnet8", "preact-resnet18"])
def test_exactly_the_found_weights_can_be_scaled_without_a_change_of_the_logits(
    name: ArchitectureName,
) -> None:
    """Every convolution and linear weight is doubled alone, in training mode."""
    torch.manual_seed(0)
    model = models.build(name, classes=4, size=8, mean=(0.3,), std=(0.4,), seed=1).double().train()
    images = torch.rand(6, 1, 8, 8, dtype=torch.float64)
    found = scale_invariant_weights(copy.deepcopy(model), images)
    shapes = [tuple(weight.shape) for weight in found]
    # With the usual constant in the denominator of batch norm, the invariance is not exact.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-20
    with torch.no_grad():
        before, invariant = model(images), []
        for weight in [value for value in model.parameters() if value.ndim > 1]:
            weight.mul_(2)
            if torch.allclose(model(images), before, rtol=1e-6, atol=1e-9):
                invariant.append(tuple(weight.shape))
            weight.div_(2)
    assert sorted(invariant) == sorted(shapes) != []


def test_a_network_without_batch_norm_has_none() -> None:
    model = models.build("resnet18-w16-gn", classes=4, size=8, mean=(0.3,), std=(0.4,), seed=1)
    assert scale_invariant_weights(model, torch.rand(2, 1, 8, 8)) == []
