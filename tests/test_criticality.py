import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rift import models
from rift.config import Criticality
from rift.criticality import ModuleCriticality, measured_modules, measured_weight, module_robust_criticality
from rift.data.split import Split, to_float
from rift.models.preact_resnet import PreActResNet
from rift.models.wide_resnet import WideResNet


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
        weight = measured_weight(network.get_submodule(name))
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


class Attention(nn.Module):
    """A small transformer with torch's own attention, which holds a weight that belongs to no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 4, 4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.layer(self.embed(images).flatten(2).mT)
        logits: torch.Tensor = self.head(tokens.mean(1))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "preact-resnet": lambda: PreActResNet(10, 1, width=4),
    "wide-resnet": lambda: WideResNet(10, 1, depth=10, widen=2),
    "vit": lambda: models.build("timm:test_vit", classes=10, size=16, mean=(0.3,), std=(0.4,)),
    "attention": Attention,
}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_kind_of_network_is_covered(network: str) -> None:
    """Each matrix and each convolution kernel has its row, and its MRC is that of a naive calculation."""
    torch.manual_seed(0)
    model = NETWORKS[network]().eval()
    images, labels = torch.rand(8, 1, 16, 16), torch.arange(8)
    settings = Criticality(epochs=1, batch_size=8)
    before = copy.deepcopy(model.state_dict())
    found = {row.module: row for row in module_robust_criticality(model, images, labels, settings)}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    weights = {name: value for name, value in model.named_parameters() if value.ndim in (2, 4)}
    rows = {name: measured_weight(model.get_submodule(name)) for name in found}
    assert list(map(id, rows.values())) == list(map(id, weights.values()))
    for name, weight in rows.items():
        assert found[name].parameters == weight.numel()
        assert found[name].kind == ("conv" if weight.ndim == 4 else "linear")
    for name, mrc in naive(model, images, labels, settings).items():
        assert found[name].mrc == pytest.approx(mrc, rel=1e-3, abs=1e-6), name
    if network == "vit":
        inside = {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
        assert {"patch_embed.proj", "head", *(f"blocks.0.{name}" for name in inside)} <= set(found)


def test_measuring_leaves_the_weights_as_they_were(resnet8: nn.Module, digits: Split) -> None:
    before = {name: value.clone() for name, value in resnet8.state_dict().items()}
    resnet8.train()
    module_robust_criticality(resnet8, to_float(digits.images[:40]), digits.labels[:40], Criticality(epochs=1))
    assert all(torch.equal(value, before[name]) for name, value in resnet8.state_dict().items())
    assert resnet8.training
