import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies
from torch import nn
from torch.nn import functional as F

from rift import models
from rift.config import Attack, Criticality
from rift.criticality import (
    Measurement,
    ModuleCriticality,
    adversarial_examples,
    criticality_table,
    join,
    measure,
    measured_modules,
    measured_weight,
    module_robust_criticality,
    shard,
)
from rift.criticality.prefix import plan_of
from rift.criticality.search import Ball
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.architectures.preact_resnet import PreActResNet
from rift.models.architectures.wide_resnet import WideResNet
from rift.models.modes import inference


@pytest.mark.parametrize("method", ["published", "pga"])
def test_mrc_of_one_linear_layer_equals_its_closed_form(
    method: Literal["published", "pga"],
) -> None:
    """The loss depends only on w₀ − w₁: its maximum in the ball is where this changes most."""
    model, images, labels, loss = _one_linear_layer()
    radius = 0.3 * math.hypot(2.0, 0.5)
    margin = 1.5
    expected = max(
        loss(margin + math.sqrt(2) * radius), loss(margin - math.sqrt(2) * radius)
    ) - loss(margin)
    asked = Criticality(
        method=method, epsilon=0.3, **({"epochs": 50} if method == "published" else {})
    )
    (record,) = module_robust_criticality(model, images, labels, settings=asked, seed=0)
    assert record.mrc == pytest.approx(expected, rel=1e-4)
    assert record.robust_loss == pytest.approx(loss(margin) + expected, rel=1e-4)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_first_order_estimate_equals_its_closed_form(norm: Literal["l2", "linf"]) -> None:
    """dR/dw = (s, −s), so ε‖w‖₂‖∇R‖₂ = ε·hypot(2, 0.5)·√2·|s|, and ε‖w‖_∞‖∇R‖₁ = ε·2·2·|s|."""
    model, images, labels, loss = _one_linear_layer()
    slope = (loss(1.5 + 1e-6) - loss(1.5 - 1e-6)) / 2e-6
    reach = {"l2": math.hypot(2.0, 0.5) * math.sqrt(2), "linf": 4}[norm]
    asked = Criticality(method="gradient", epsilon=0.001, norm=norm, batch_size=1)
    (record,) = module_robust_criticality(model, images, labels, settings=asked, seed=0)
    assert record.mrc == pytest.approx(0.001 * reach * abs(slope), rel=1e-4)
    assert math.isnan(record.robust_accuracy_drop)
    (searched,) = module_robust_criticality(
        model, images, labels, settings=Criticality(epsilon=0.001, norm=norm), seed=0
    )
    # The ball is so small that the loss is almost linear.
    assert searched.mrc == pytest.approx(record.mrc, rel=0.01)


def _one_linear_layer() -> tuple[nn.Module, torch.Tensor, torch.Tensor, Callable[[float], float]]:
    """Return a network of one matrix, three images, and its loss by the margin w₀ − w₁ = 1.5."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False))
    model.load_state_dict({"0.weight": torch.tensor([[2.0], [0.5]])})

    def loss(margin: float) -> float:
        signed = [
            margin * x * (1 if label == 0 else -1) for x, label in ((1.0, 0), (0.5, 0), (0.25, 1))
        ]
        return sum(math.log1p(math.exp(-value)) for value in signed) / 3

    return model, torch.tensor([[1.0], [0.5], [0.25]]), torch.tensor([0, 0, 1]), loss


@given(
    delta=strategies.lists(strategies.floats(-9, 9, width=32), min_size=4, max_size=4).map(
        torch.tensor
    ),
    norm=strategies.sampled_from(["l2", "linf"]),
)
def test_points_of_the_ball(delta: torch.Tensor, norm: Literal["l2", "linf"]) -> None:
    theta = torch.tensor([1.0, -2.0, 3.0, 0.5])
    ball = Ball.around(theta, Criticality(epsilon=0.5, norm=norm))
    order = 2 if norm == "l2" else torch.inf
    radius = 0.5 * torch.linalg.vector_norm(theta, order)
    projected, farthest = ball.project(delta), ball.farthest(delta)
    for point in (projected, farthest):
        assert torch.linalg.vector_norm(point, order) <= radius * (1 + 1e-6)
    if torch.linalg.vector_norm(delta, order) <= radius:
        assert torch.allclose(projected, delta)
    # No other point is farther along delta, because Hölder's inequality is an equality there.
    dual = torch.linalg.vector_norm(delta, 2 if norm == "l2" else 1)
    assert torch.allclose((farthest * delta).sum(), radius * dual, rtol=1e-5, atol=1e-15)


def naive(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    settings: Criticality,
    modules: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """Calculate MRC like Algorithm 1 of the paper: with a copy and an optimizer per module."""

    def loss_of(network: nn.Module) -> float:
        with torch.no_grad():
            return F.cross_entropy(network(images), labels).item()

    found = {}
    for name in modules or measured_modules(model):
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
            if ratio > settings.epsilon and settings.stop_at_boundary:
                break
        found[name] = largest - loss_of(model)
    return found


@pytest.fixture(scope="module")
def measured(prepared_model: nn.Module, digits: Images) -> list[ModuleCriticality]:
    settings = Criticality(method="published", epochs=3, batch_size=50)
    some = digits.up_to(120)
    return module_robust_criticality(
        prepared_model, some.floats(), some.labels, settings=settings, seed=0
    )


def test_mrc_equals_a_naive_calculation(
    measured: list[ModuleCriticality], prepared_model: nn.Module, digits: Images
) -> None:
    expected = naive(
        prepared_model,
        digits.up_to(120).floats(),
        digits.up_to(120).labels,
        Criticality(method="published", epochs=3, batch_size=50),
    )
    assert [record.module for record in measured] == list(expected)
    for record in measured:
        assert record.mrc == pytest.approx(expected[record.module], rel=1e-4, abs=1e-6), (
            record.module
        )


def test_stopping_at_the_boundary_equals_a_naive_calculation(
    prepared_model: nn.Module, digits: Images
) -> None:
    images, labels = digits.up_to(120).floats(), digits.up_to(120).labels
    asked = Criticality(
        method="published", epochs=4, batch_size=50, epsilon=0.05, stop_at_boundary=True
    )
    expected = naive(prepared_model, images, labels, asked)
    for record in module_robust_criticality(prepared_model, images, labels, settings=asked, seed=0):
        assert record.mrc == pytest.approx(expected[record.module], rel=1e-4, abs=1e-6), (
            record.module
        )
    # The stop had an effect: without it, the loss of some module continues to rise.
    on = module_robust_criticality(
        prepared_model,
        images,
        labels,
        settings=asked.model_copy(update={"stop_at_boundary": False}),
        seed=0,
    )
    assert any(record.mrc > 1.05 * expected[record.module] for record in on)


@pytest.mark.parametrize(
    ("architecture", "modules"),
    [
        ("resnet18", ("layer2.1.conv2", "layer4.0.shortcut.0", "linear")),
        ("vit-small", ("blocks.5.attn.qkv", "blocks.7.mlp.fc2", "head")),
    ],
)
def test_the_paper_s_networks_equal_a_naive_calculation(
    architecture: Any, modules: tuple[str, ...]
) -> None:
    model = models.build(architecture, classes=10, size=32, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
    torch.manual_seed(0)
    images, labels = torch.rand(6, 3, 32, 32), torch.arange(6)
    asked = Criticality(method="published", epochs=2, batch_size=4)
    found = criticality_table(measure(model, images, labels, modules, settings=asked, seed=0))
    expected = naive(model, images, labels, asked, modules)
    for record in found:
        assert record.mrc == pytest.approx(expected[record.module], rel=1e-4, abs=1e-6), (
            record.module
        )


def test_pga_finds_what_the_published_search_does_in_a_third_of_its_passes(
    prepared_model: nn.Module, digits: Images
) -> None:
    """The published search takes ten ascent passes and ten checks, PGA takes three and one.

    PGA finds at least as much for most modules, and more on average. For one or two modules of a
    network, it may end at a lower maximum. docs/criticality.md compares other networks and data.
    """
    some = digits.up_to(512)
    adversarial = adversarial_examples(
        prepared_model, some, attack=Attack(eps=0.1, step=0.05, steps=5), seed=0
    )
    tables = [
        module_robust_criticality(prepared_model, adversarial, some.labels, settings=asked, seed=0)
        for asked in (Criticality(), Criticality(method="published"))
    ]
    ratios = {ours.module: ours.mrc / theirs.mrc for ours, theirs in zip(*tables, strict=True)}
    assert sum(ratio >= 0.99 for ratio in ratios.values()) >= 0.8 * len(ratios), ratios
    assert math.prod(ratios.values()) ** (1 / len(ratios)) > 1, ratios


def small_network(seed: int, batch_norm: bool, training: int) -> tuple[nn.Module, Any, Any]:
    """Return a briefly trained network, images and labels."""
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(6) if batch_norm else nn.Identity()
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        norm,
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 4),
    )
    images, labels = torch.rand(24, 1, 6, 6), torch.randint(4, (24,))
    optimizer = torch.optim.SGD(network.parameters(), 0.3, momentum=0.9)
    for _ in range(training):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval().requires_grad_(False), images, labels


@settings(max_examples=30, deadline=None)
@example(seed=436, batch_norm=False, training=30, epsilon=0.02, norm="l2")
@given(
    seed=strategies.integers(0, 10_000),
    batch_norm=strategies.booleans(),
    training=strategies.sampled_from([0, 5, 30]),
    epsilon=strategies.sampled_from([0.02, 0.1, 0.5]),
    norm=strategies.sampled_from(["l2", "linf"]),
)
def test_pga_never_ends_below_a_step_along_the_first_gradient(
    seed: int, batch_norm: bool, training: int, epsilon: float, norm: Literal["l2", "linf"]
) -> None:
    network, images, labels = small_network(seed, batch_norm, training)
    asked = Criticality(epsilon=epsilon, norm=norm, restarts=2, trial_images=8)
    for row in module_robust_criticality(network, images, labels, settings=asked, seed=0):
        weight = measured_weight(network.get_submodule(row.module))
        theta = weight.detach().clone()
        weight.requires_grad_(True)
        loss = F.cross_entropy(network(images), labels)
        (gradient,) = torch.autograd.grad(loss, weight)
        weight.requires_grad_(False)
        if norm == "l2":
            radius = epsilon * theta.norm()
            # A network whose units are all dead has no gradient.
            length = gradient.norm().clamp(min=1e-30)
            steps = [radius * gradient / length, gradient * min(1.0, float(radius / length))]
        else:
            radius = epsilon * theta.abs().max()
            steps = [radius * gradient.sign(), gradient.clamp(-radius, radius)]
        for step in steps:
            with torch.no_grad():
                weight.copy_(theta + step)
                rise = F.cross_entropy(network(images), labels) - loss
                weight.copy_(theta)
            assert row.mrc >= rise.item() - 1e-5, row.module
        assert row.mrc >= 0


class TwoHills(nn.Module):
    """A network whose loss rises in both directions, and less along its first gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        self.layer.weight.data.fill_(1.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        moved = self.layer(images.flatten(1))[:, 0] - 1
        low, high = 2 * moved.clamp(min=0), 9 * (-moved - 0.02).clamp(min=0)
        return torch.stack([torch.zeros_like(moved), low, high], 1)


def test_restarts_find_the_higher_of_two_maxima() -> None:
    """The loss of class 0 is ln(2 + eᵐ), with m = 0.2 on one side and m = 0.72 on the other."""
    images, labels = torch.ones(8, 1, 1, 1), torch.zeros(8, dtype=torch.long)
    found = {
        restarts: module_robust_criticality(
            TwoHills(), images, labels, settings=Criticality(restarts=restarts), seed=0
        )[0]
        for restarts in (0, 10)
    }
    assert found[0].robust_loss == pytest.approx(math.log(2 + math.exp(2 * 0.1)), rel=1e-4)
    assert found[10].robust_loss == pytest.approx(math.log(2 + math.exp(9 * 0.08)), rel=1e-4)


def test_settings_of_another_method_are_refused() -> None:
    with pytest.raises(
        ValueError, match="epochs: is a setting of the method published, but the method is pga"
    ):
        Criticality(epochs=3)
    with pytest.raises(
        ValueError, match="restarts: is a setting of the method pga, but the method is gradient"
    ):
        Criticality(method="gradient", restarts=2)
    with pytest.raises(ValueError, match="norm: the method published supports only l2"):
        Criticality(method="published", norm="linf")


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
    """A small transformer with torch's attention, which has a weight outside of linear layers."""

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
    """Each matrix and each kernel has a row, and a naive calculation gives the same MRC."""
    torch.manual_seed(0)
    model = NETWORKS[network]().eval()
    images, labels = torch.rand(8, 1, 16, 16), torch.arange(8)
    settings = Criticality(method="published", epochs=1, batch_size=8)
    before = copy.deepcopy(model.state_dict())
    rows = module_robust_criticality(model, images, labels, settings=settings, seed=0)
    found = {row.module: row for row in rows}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    weights = {name: value for name, value in model.named_parameters() if value.ndim in (2, 4)}
    measured = {name: measured_weight(model.get_submodule(name)) for name in found}
    assert list(map(id, measured.values())) == list(map(id, weights.values()))
    for name, weight in measured.items():
        assert found[name].parameters == weight.numel()
        assert found[name].kind == ("conv" if weight.ndim == 4 else "linear")
    for name, mrc in naive(model, images, labels, settings).items():
        assert found[name].mrc == pytest.approx(mrc, rel=1e-3, abs=1e-6), name
    if network == "vit":
        inside = {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
        assert {"patch_embed.proj", "head", *(f"blocks.0.{name}" for name in inside)} <= set(found)


def test_measuring_leaves_the_weights_as_they_were(resnet8: nn.Module, digits: Images) -> None:
    before = {name: value.clone() for name, value in resnet8.state_dict().items()}
    resnet8.train()
    some = digits.up_to(40)
    module_robust_criticality(
        resnet8, some.floats(), some.labels, settings=Criticality(passes=2), seed=0
    )
    assert all(torch.equal(value, before[name]) for name, value in resnet8.state_dict().items())
    assert resnet8.training


class Awkward(nn.Module):
    """A network whose activations are hard to cache.

    It has in-place operations, a module that is used twice, and a tied weight.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.rectify = nn.ReLU(inplace=True)
        self.pair = nn.ModuleDict({"a": nn.Conv2d(4, 4, 1), "b": nn.Conv2d(4, 4, 1)})
        self.tied = nn.Linear(4, 4)
        self.same = nn.Linear(4, 4)
        self.same.weight = self.tied.weight
        self.head = nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.rectify(self.norm(self.first(images)))
        x = x + self.twice(x)
        y = self.norm(self.twice(x))
        y += x
        parts = {name: convolution(y) for name, convolution in self.pair.items()}
        z = self.tied((parts["a"] * parts["b"].sigmoid()).mean((2, 3)))
        logits: torch.Tensor = self.head(self.same(z.relu_()))
        return logits


def test_activations_that_are_kept_change_nothing() -> None:
    torch.manual_seed(1)
    model = Awkward().eval()
    images, labels = torch.rand(12, 1, 8, 8), torch.arange(12) % 10
    asked = Criticality(method="published", epochs=2, batch_size=4)
    kept, anew = (
        measure(
            model,
            images,
            labels,
            measured_modules(model),
            settings=asked.model_copy(update={"cache_mib": mib}),
            seed=0,
        )
        for mib in (100, 0)
    )
    assert np.array_equal(kept.rises, anew.rises)
    for number, (name, mrc) in enumerate(naive(model, images, labels, asked).items()):
        assert kept.rises[number].mean() == pytest.approx(mrc, rel=1e-4, abs=1e-6), name


def test_only_what_follows_a_module_is_computed_and_only_what_it_needs_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = models.build("resnet18", classes=10, size=32, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
    calls: list[str] = []
    names = {module: name for name, module in measured_modules(model).items()}

    def counted(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def count(
            module: nn.Module, inputs: torch.Tensor, *rest: Any, **named: Any
        ) -> torch.Tensor:
            # The planning uses two images; its calls do not count.
            calls.extend([names[module]] * (len(inputs) == 4))
            return forward(module, inputs, *rest, **named)

        return count

    # A convolution with a folded norm does not pass through its forward.
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", counted(nn.Conv2d._conv_forward))
    monkeypatch.setattr(nn.Linear, "forward", counted(nn.Linear.forward))
    images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
    bytes_kept = {}
    for name in ("layer1.0.conv1", "layer2.1.conv2", "layer4.1.conv2", "linear"):
        with inference(model):
            weight = measured_weight(model.get_submodule(name))
            weight.requires_grad_(True)
            plan = plan_of(model, weight, images)
            weight.requires_grad_(False)
        assert not isinstance(plan, str), plan
        bytes_kept[name] = plan.bytes
    # Numbers of float32 values: for the first module, the input of the block; for the others, also
    # the output of its first half. For the linear layer, the mean over a 4×4 plane comes later.
    expected = {
        "layer1.0.conv1": 64 * 32**2,
        "layer2.1.conv2": 2 * 128 * 16**2,
        "layer4.1.conv2": 2 * 512 * 4**2,
    }
    expected["linear"] = 512 * 4**2
    assert bytes_kept == {
        name: pytest.approx(4 * count, rel=0.01) for name, count in expected.items()
    }
    order = list(measured_modules(model))
    calls.clear()
    measure(
        model,
        images,
        labels,
        ["layer4.1.conv2"],
        settings=Criticality(method="published", epochs=3, batch_size=4),
        seed=0,
    )
    # Each module runs in the whole network and in the pass that caches activations. The measured
    # module and its successors run in three more checks.
    assert {name: calls.count(name) for name in order} == {
        name: 5 if name in ("layer4.1.conv2", "linear") else 2 for name in order
    }


class Wandering(nn.Module):
    """A network that calls its modules in a different order each time."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 10)
        self.turns: Iterator[int] = iter(range(10**6))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.flatten(1)
        one, two = (
            (self.one(x), self.two(x))
            if next(self.turns) % 2
            else (self.two(x).clone(), self.one(x))[::-1]
        )
        logits: torch.Tensor = self.head(one * two)
        return logits


def test_a_network_without_a_fixed_order_is_measured_by_whole_passes_and_that_is_said() -> None:
    torch.manual_seed(0)
    model = Wandering().eval()
    images, labels = torch.rand(6, 1, 2, 2), torch.arange(6)
    notes: list[str] = []

    def progress(done: float, total: int, note: str = "", **figures: Any) -> None:
        notes.append(note)

    asked = Criticality(method="published", epochs=1, batch_size=6)
    found = measure(model, images, labels, ["head"], settings=asked, seed=0, progress=progress)
    assert any(
        "whole passes: the network does not call its modules in the same order" in note
        for note in notes
    )
    assert found.rises.mean() == pytest.approx(
        naive(model, images, labels, asked, ("head",))["head"], rel=1e-4
    )


def test_shards_give_the_table_of_one_job_and_what_is_missing_is_said(
    prepared_model: nn.Module, digits: Images
) -> None:
    images, labels = digits.up_to(60).floats(), digits.up_to(60).labels
    order, asked = list(measured_modules(prepared_model)), Criticality(restarts=2)
    whole = measure(prepared_model, images, labels, order, settings=asked, seed=0)
    parts = [
        measure(prepared_model, images, labels, shard(order, number, 3), settings=asked, seed=0)
        for number in (1, 2, 3)
    ]
    assert criticality_table(join(parts[::-1], order)) == criticality_table(whole)
    with pytest.raises(RiftError, match="do not contain each module of the network exactly once"):
        join(parts[:2], order)
    with pytest.raises(RiftError, match="exactly once"):
        join([*parts, parts[0]], order)
    with pytest.raises(RiftError, match="differ in their images or in the network"):
        join([*parts[:2], replace(parts[2], losses=parts[2].losses + 1)], order)


@settings(max_examples=20)
@given(seed=strategies.integers(0, 10**6))
def test_standard_errors_and_ties_are_those_of_the_textbook(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rises = rng.normal([[0.5], [0.52], [3.0]], 0.1, (3, 40))
    measurement = Measurement(
        [(name, "conv", 1) for name in "abc"],
        rng.random(40).astype(np.float32),
        rng.random(40) < 0.5,
        np.ones(40),
        rises,
        rng.random((3, 40)) < 0.3,
    )
    rows = criticality_table(measurement)
    least = min(rows, key=lambda row: row.mrc)
    for number, row in enumerate(rows):
        assert row.mrc == pytest.approx(rises[number].mean())
        assert row.mrc_error == pytest.approx(rises[number].std(ddof=1) / math.sqrt(40))
        difference = rises[number] - rises["abc".index(least.module)]
        assert row.tied == (difference.mean() <= 1.96 * difference.std(ddof=1) / math.sqrt(40))
    assert least.tied
    assert not rows[2].tied


def test_batches_of_different_sizes_weigh_by_their_images() -> None:
    """If samples represent several images, the error of their mean counts each image."""
    per_batch = np.array([[1.0, 2.0, 4.0]])
    measurement = Measurement(
        [("a", "conv", 1)],
        np.zeros(7, np.float32),
        np.ones(7, bool),
        np.array([3.0, 3.0, 1.0]),
        per_batch,
        np.zeros((1, 0), bool),
    )
    (row,) = criticality_table(measurement)
    mean = (3 + 6 + 4) / 7
    squares = 9 * (1 - mean) ** 2 + 9 * (2 - mean) ** 2 + (4 - mean) ** 2
    assert row.mrc == pytest.approx(mean)
    assert row.mrc_error == pytest.approx(math.sqrt(squares * 3 / 2) / 7)
