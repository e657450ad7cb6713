import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rift.config import Criticality
from rift.criticality import ModuleCriticality, measured_modules, module_robust_criticality
from rift.data.split import Split, to_float


def test_mrc_of_one_linear_layer_equals_its_closed_form() -> None:
    """Two classes, one input: the loss depends on w₀ − w₁ alone, so its maximum in the ball is where that moves most."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False))
    weight = torch.tensor([[2.0], [0.5]])
    model.load_state_dict({"0.weight": weight})
    images, labels = torch.tensor([[1.0], [0.5], [0.25]]), torch.tensor([0, 0, 1])

    def loss(margin: float) -> float:
        signed = [margin * x * (1 if label == 0 else -1) for x, label in ((1.0, 0), (0.5, 0), (0.25, 1))]
        return sum(math.log1p(math.exp(-value)) for value in signed) / 3

    radius = 0.3 * math.hypot(2.0, 0.5)
    margin = 1.5
    expected = max(loss(margin + math.sqrt(2) * radius), loss(margin - math.sqrt(2) * radius)) - loss(margin)
    settings = Criticality(epsilon=0.3, epochs=50)
    (record,) = module_robust_criticality(model, images, labels, settings)
    assert record.mrc == pytest.approx(expected, rel=1e-4)
    assert record.robust_loss == pytest.approx(loss(margin) + expected, rel=1e-4)


def naive(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, settings: Criticality) -> dict[str, float]:
    """Recalculate MRC slowly, as the paper's Algorithm 1 reads: a copy of the network and an optimizer for each module."""

    def loss_of(network: nn.Module) -> float:
        with torch.no_grad():
            return F.cross_entropy(network(images), labels).item()

    found = {}
    for name in measured_modules(model):
        network = copy.deepcopy(model).eval()
        weight = network.get_parameter(f"{name}.weight")
        start = weight.detach().clone()
        optimizer = torch.optim.SGD([weight], lr=settings.learning_rate)
        largest = loss_of(model)
        for _ in range(settings.epochs):
            for first in range(0, len(labels), settings.batch_size):
                part = slice(first, first + settings.batch_size)
                optimizer.zero_grad()
                (-F.cross_entropy(network(images[part]), labels[part])).backward()
                optimizer.step()
            with torch.no_grad():
                delta = weight - start
                ratio = delta.norm() / start.norm()
                if ratio > settings.epsilon:
                    weight.copy_(start + delta * settings.epsilon / ratio)
            largest = max(largest, loss_of(network))
        found[name] = largest - loss_of(model)
    return found


@pytest.fixture(scope="module")
def measured(prepared_model: nn.Module, digits: Split) -> list[ModuleCriticality]:
    settings = Criticality(epochs=3, batch_size=50)
    return module_robust_criticality(prepared_model, to_float(digits.images[:120]), digits.labels[:120], settings)


def test_mrc_equals_a_naive_calculation(
    measured: list[ModuleCriticality], prepared_model: nn.Module, digits: Split
) -> None:
    expected = naive(
        prepared_model, to_float(digits.images[:120]), digits.labels[:120], Criticality(epochs=3, batch_size=50)
    )
    assert [record.module for record in measured] == list(expected)
    for record in measured:
        assert record.mrc == pytest.approx(expected[record.module], rel=1e-4, abs=1e-6), record.module


def test_table_covers_every_convolution_and_linear_layer_in_order(
    measured: list[ModuleCriticality], prepared_model: nn.Module
) -> None:
    weights = [name for name, value in prepared_model.named_parameters() if value.ndim >= 2]
    assert [f"{record.module}.weight" for record in measured] == weights
    assert [record.parameters for record in measured] == [
        prepared_model.get_parameter(name).numel() for name in weights
    ]
    by_rank = sorted(measured, key=lambda record: record.rank)
    assert [record.rank for record in by_rank] == list(range(1, len(measured) + 1))
    assert [record.mrc for record in by_rank] == sorted(record.mrc for record in measured)
    assert min(record.mrc for record in measured) >= 0


def test_measuring_leaves_the_weights_as_they_were(resnet8: nn.Module, digits: Split) -> None:
    before = {name: value.clone() for name, value in resnet8.state_dict().items()}
    resnet8.train()
    module_robust_criticality(resnet8, to_float(digits.images[:40]), digits.labels[:40], Criticality(epochs=1))
    assert all(torch.equal(value, before[name]) for name, value in resnet8.state_dict().items())
    assert resnet8.training
