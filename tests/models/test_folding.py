"""Batch norm folded into convolutions: the same network, and never a wrong one."""

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from rift import attacks
from rift.models import build
from rift.models.folding import folded
from rift.models.modes import inference

M = TypeVar("M", bound=nn.Module)


def lively(model: M, seed: int = 0) -> M:
    """Give batch norms scales, shifts and statistics that are far from 1 and 0."""
    numbers = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, least in (
                (module.weight, 0.5),
                (module.bias, -1.0),
                (module.running_mean, -1.0),
                (module.running_var, 0.2),
            ):
                if tensor is not None:
                    drawn = torch.rand(tensor.shape, generator=numbers)
                    tensor.data = (least + 2 * drawn).to(tensor.dtype)
    return model.eval()


def images_for(channels: int = 3, side: int = 8) -> Tensor:
    return torch.rand(4, channels, side, side, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A convolution, a batch norm, and a head; ``between`` sees the output of the convolution."""

    def __init__(
        self, between: Callable[[Tensor, Tensor], Tensor] = lambda before, after: after
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)
        self.between = between

    def forward(self, images: Tensor) -> Tensor:
        before = self.conv(images)
        after = self.between(before, self.norm(before))
        logits: Tensor = self.head(after.relu().mean((2, 3)))
        return logits


def calls_of_norms(model: nn.Module, images: Tensor) -> int:
    """Return how many batch norms torch computes in a pass."""
    with torch.profiler.profile() as profile, torch.no_grad():
        model(images)
    return sum(event.name == "aten::native_batch_norm" for event in profile.events() or ())


@pytest.mark.parametrize("architecture", ["resnet8", "resnet18-w16", "preact-resnet18"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_and_gradients_are_the_same(architecture: str, dtype: torch.dtype) -> None:
    model = lively(
        build(architecture, classes=10, size=16, mean=(0.5,) * 3, std=(0.2,) * 3, seed=0)
    )
    model, images = model.to(dtype), images_for(side=16).to(dtype)

    def both() -> tuple[Tensor, Tensor]:
        point = images.clone().requires_grad_()
        logits = model(point)
        (gradient,) = torch.autograd.grad(logits.square().sum(), point)
        return logits.detach(), gradient

    with inference(model):
        before = both()
        with folded(model, images):
            within = both()
        after = both()
    # Rounding can move a value across the bend of a ReLU, which changes some gradients.
    precision = 1e-2 if dtype == torch.float32 else 1e-10
    for one, other in zip(before, within, strict=True):
        assert (one - other).norm() <= precision * one.norm()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_norms_after_convolutions_cost_nothing() -> None:
    """In a pre-activation network the first norm of a block has no convolution of its own."""
    for architecture, left in (("resnet18-w16", 0), ("preact-resnet18", 8)):
        model = lively(build(architecture, classes=10, size=8, mean=(0.5,) * 3, std=(0.2,) * 3))
        assert calls_of_norms(model, images_for()) > left
        with folded(model, images_for()):
            assert calls_of_norms(model, images_for()) == left


@pytest.mark.parametrize(
    "between",
    [
        lambda before, after: before + after,
        # No gradient shows this use.
        lambda before, after: after + before.detach(),
    ],
)
def test_an_output_that_is_used_twice_is_not_folded(
    between: Callable[[Tensor, Tensor], Tensor],
) -> None:
    model, images = lively(Net(between)), images_for()
    before = model(images)
    with folded(model, images):
        assert torch.equal(model(images), before)


def test_a_convolution_that_is_called_twice_is_not_folded() -> None:
    class Twice(Net):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) + super().forward(images.flip(3))

    model, images = lively(Twice()), images_for()
    before = model(images)
    with folded(model, images):
        assert torch.equal(model(images), before)


def test_a_hook_sees_what_it_would_see_otherwise() -> None:
    """A hook that came after the network was known is respected, too."""
    model, images = lively(Net()), images_for()
    with folded(model, images):
        assert calls_of_norms(model, images) == 0
    seen: list[Tensor] = []
    model.conv.register_forward_hook(lambda module, given, output: seen.append(output))
    expected = nn.functional.conv2d(images, model.conv.weight)
    with folded(model, images):
        model(images)
    assert torch.equal(seen[0], expected)


def test_what_moves_is_not_folded() -> None:
    model, images = lively(Net()), images_for()
    for weight in model.conv.weight, model.norm.weight:
        assert isinstance(weight, nn.Parameter)
        with folded(model, images, moving=weight):
            logits = model(images)
            (gradient,) = torch.autograd.grad(logits.square().sum(), weight)
            with torch.no_grad():
                weight.mul_(1.5)
            moved = model(images)
        assert gradient.abs().max() > 0
        assert torch.equal(moved, model(images))
        assert not torch.equal(moved, logits)


def test_every_context_sees_the_weights_and_statistics_of_its_time() -> None:
    model, images = lively(Net()), images_for()
    for seed in range(3):
        lively(model, seed)
        expected = model(images)
        with folded(model, images):
            assert torch.allclose(model(images), expected, atol=1e-5)
    model.conv = nn.Conv2d(3, 6, 3)  # another module in the same place, with a bias
    expected = model(images)
    with folded(model, images):
        assert torch.allclose(model(images), expected, atol=1e-5)


def test_training_mode_and_its_statistics_are_untouched() -> None:
    model, images = lively(Net()).train(), images_for()
    statistics = model.norm.running_mean
    assert statistics is not None
    before = statistics.clone()
    with folded(model, images):
        assert torch.equal(statistics, before)
        assert calls_of_norms(model, images) == 1


def test_the_network_is_restored_after_an_error() -> None:
    model, images = lively(Net()), images_for()
    expected = model(images)
    with pytest.raises(KeyError), folded(model, images):
        raise KeyError
    assert torch.equal(model(images), expected)
    assert calls_of_norms(model, images) == 1


def test_random_numbers_are_not_consumed() -> None:
    class Noisy(Net):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images + 0.01 * torch.randn(images.shape))

    model, images = lively(Noisy()), images_for()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with folded(model, images):
        assert torch.equal(torch.rand(3), expected)


def test_an_attack_leaves_the_network_as_it_was() -> None:
    model, images = lively(Net()), images_for()
    names, expected = set(vars(model.conv)), model(images)
    attacks.pgd(model, images, torch.arange(4), eps=0.1, step=0.05, steps=2)
    assert set(vars(model.conv)) == names
    assert torch.equal(model(images), expected)
