import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rift.attacks import pgd
from rift.models.modes import inference


class Linear(nn.Module):
    """Two classes, logits ±(w·x): its worst point in a ball is known."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = (images * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([score, -score], dim=1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    eps=st.floats(1e-3, 0.7),
    step=st.floats(1e-3, 1.0),
    steps=st.integers(1, 5),
    restarts=st.integers(1, 3),
)
def test_pgd_stays_in_the_ball_and_in_the_image_range(
    seed: int, eps: float, step: float, steps: int, restarts: int
) -> None:
    images = torch.rand((5, 1, 4, 4), generator=seeded(seed))
    images[0], images[1] = 0.0, 1.0
    model = Linear(torch.randn((1, 4, 4), generator=seeded(seed + 1)))
    labels = torch.tensor([0, 1, 0, 1, 0])
    adversarial = pgd(model, images, labels, eps=eps, step=step, steps=steps, restarts=restarts, generator=seeded(seed))
    assert adversarial.shape == images.shape
    assert (adversarial - images).abs().max() <= eps + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_pgd_finds_the_known_maximum_of_a_linear_model() -> None:
    weight = torch.tensor([[[1.0, -2.0], [0.5, -0.1]]])
    images = torch.full((2, 1, 2, 2), 0.5)
    labels = torch.tensor([0, 1])
    adversarial = pgd(Linear(weight), images, labels, eps=0.1, step=0.05, steps=10, generator=seeded(0))
    worst = images - 0.1 * weight.sign() * torch.tensor([1.0, -1.0])[:, None, None, None]
    torch.testing.assert_close(adversarial, worst)


def test_restarts_only_take_images_away(resnet8: nn.Module) -> None:
    images = torch.rand((64, 1, 8, 8), generator=seeded(3))
    labels = resnet8(images).argmax(1)

    def withstood(restarts: int) -> torch.Tensor:
        adversarial = pgd(resnet8, images, labels, eps=0.03, step=0.01, steps=2, restarts=restarts, generator=seeded(0))
        return torch.eq(resnet8(adversarial).argmax(1), labels)

    once, often = withstood(1), withstood(8)
    assert not (often & ~once).any()
    assert often.sum() < once.sum() < 64


def test_restarts_begin_at_the_same_points_for_every_model(resnet8: nn.Module, prepared_model: nn.Module) -> None:
    """Half of the images withstand, or none: the generator is as far afterwards."""
    images = torch.rand((40, 1, 8, 8), generator=seeded(3))
    found = []
    for model in (resnet8, prepared_model):
        for wrong in (slice(0, 40, 2), slice(0, 40)):
            labels = model(images).argmax(1)
            labels[wrong] = (labels[wrong] + 1) % 10
            stream = seeded(0)
            pgd(model, images, labels, eps=0.02, step=1e-9, steps=1, restarts=3, generator=stream)
            found.append(torch.rand(1, generator=stream).item())
    assert len(set(found)) == 1


def test_pgd_leaves_the_model_as_it_was(resnet8: nn.Module) -> None:
    resnet8.train()
    resnet8.get_submodule("layer1").eval()
    resnet8.get_parameter("linear.weight").requires_grad_(False)
    before = {name: value.clone() for name, value in resnet8.state_dict().items()}
    pgd(resnet8, torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64), eps=0.1, step=0.1, steps=2)
    assert all(torch.equal(value, before[name]) for name, value in resnet8.state_dict().items())
    assert resnet8.training
    assert not resnet8.get_submodule("layer1").training
    assert not resnet8.get_parameter("linear.weight").requires_grad
    assert resnet8.get_parameter("conv1.weight").requires_grad
    assert all(parameter.grad is None for parameter in resnet8.parameters())


def test_inference_restores_the_model_after_an_exception(resnet8: nn.Module) -> None:
    resnet8.train()
    with pytest.raises(RuntimeError, match="oops"), inference(resnet8):
        assert not resnet8.training
        raise RuntimeError("oops")
    assert resnet8.training
    assert all(parameter.requires_grad for parameter in resnet8.parameters())
