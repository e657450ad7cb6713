from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rift.attacks import pgd
from rift.attacks.inner import INNER, InnerAttack, draw_noise, resolve
from rift.config import Attack, Inner, InnerName
from rift.models.modes import inference
from tests.attacks.linear import Linear, random_problem, seeded


@settings(max_examples=40)
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
    model, images, labels = random_problem(seed)
    adversarial = pgd(
        model,
        images,
        labels,
        eps=eps,
        step=step,
        steps=steps,
        restarts=restarts,
        generator=seeded(seed),
    )
    assert adversarial.shape == images.shape
    assert (adversarial - images).abs().max() <= eps + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_pgd_finds_the_known_maximum_of_a_linear_model() -> None:
    weight = torch.tensor([[[1.0, -2.0], [0.5, -0.1]]])
    images = torch.full((2, 1, 2, 2), 0.5)
    labels = torch.tensor([0, 1])
    adversarial = pgd(
        Linear(weight), images, labels, eps=0.1, step=0.05, steps=10, generator=seeded(0)
    )
    worst = images - 0.1 * weight.sign() * torch.tensor([1.0, -1.0])[:, None, None, None]
    torch.testing.assert_close(adversarial, worst)


def test_restarts_only_take_images_away(resnet8: nn.Module) -> None:
    images = torch.rand((64, 1, 8, 8), generator=seeded(3))
    labels = resnet8(images).argmax(1)

    def withstood(restarts: int) -> torch.Tensor:
        adversarial = pgd(
            resnet8,
            images,
            labels,
            eps=0.03,
            step=0.01,
            steps=2,
            restarts=restarts,
            generator=seeded(0),
        )
        return torch.eq(resnet8(adversarial).argmax(1), labels)

    once, often = withstood(1), withstood(8)
    assert not (often & ~once).any()
    assert often.sum() < once.sum() < 64


def test_restarts_begin_at_the_same_points_for_every_model(
    resnet8: nn.Module, prepared_model: nn.Module
) -> None:
    """The generator draws equally many numbers whether half of the images withstand or none."""
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
    pgd(
        resnet8,
        torch.rand(4, 1, 8, 8),
        torch.zeros(4, dtype=torch.int64),
        eps=0.1,
        step=0.1,
        steps=2,
    )
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


AIM = torch.rand((5, 1, 4, 4), generator=torch.Generator().manual_seed(7))


def nearness(logits: torch.Tensor) -> torch.Tensor:
    """Return an objective whose gradient points to ``AIM``.

    The gradient therefore depends on the point where it is taken.
    """
    return -(logits - AIM.flatten(1)).square().sum()


def inner(images: torch.Tensor, noise: torch.Tensor, attack: InnerAttack) -> torch.Tensor:
    """Attack a network whose logits are its pixels."""
    return INNER[attack.method](nn.Flatten(), images, nearness, noise, attack)


def pixel_by_pixel(image: float, noise: float, aim: float, attack: InnerAttack) -> float:
    """Return a pixel after one step of an attack."""
    lowest, highest = max(0, image - attack.eps), min(1, image + attack.eps)
    reach = {
        "pgd": 0.001 if attack.start == "normal" else attack.eps,
        "fgsm-rs": attack.eps,
        "n-fgsm": 2 * attack.eps,
    }
    point = image + reach[attack.method] * noise
    if attack.method == "n-fgsm":
        lowest, highest = 0, 1
    point = min(highest, max(lowest, point))
    point += attack.step if point < aim else -attack.step
    return min(highest, max(lowest, point))


@pytest.mark.parametrize(
    ("method", "start"),
    [("pgd", "uniform"), ("pgd", "normal"), ("fgsm-rs", "uniform"), ("n-fgsm", "uniform")],
)
@pytest.mark.parametrize("step", [None, 0.03])
def test_one_step_of_an_inner_attack_is_that_of_its_authors(
    method: InnerName, start: Literal["uniform", "normal"], step: float | None
) -> None:
    """The images have black and white pixels, so the range of images matters too."""
    attack = resolve(Inner(method=method, start=start, eps=0.2, step=step, steps=1), Attack())
    images = (2 * torch.rand((5, 1, 4, 4), generator=seeded(1)) - 0.5).clamp(0, 1)
    noise = draw_noise(images, attack, seeded(2))
    expected = [
        pixel_by_pixel(image, start, aim, attack)
        for image, start, aim in zip(images.flatten(), noise.flatten(), AIM.flatten(), strict=True)
    ]
    torch.testing.assert_close(
        inner(images, noise, attack), torch.tensor(expected).reshape(images.shape)
    )


def test_what_an_inner_attack_leaves_open_is_that_of_the_threat_model_or_of_its_authors() -> None:
    threat = Attack(eps=0.1, step=0.03, steps=7)
    assert resolve(Inner(), threat) == InnerAttack("pgd", "uniform", 0.1, 0.03, 7)
    assert resolve(Inner(method="fgsm-rs"), threat) == InnerAttack(
        "fgsm-rs", "uniform", 0.1, 0.125, 7
    )
    assert resolve(Inner(method="n-fgsm"), threat) == InnerAttack("n-fgsm", "uniform", 0.1, 0.1, 7)
    assert resolve(Inner(method="fgsm-rs", eps=0.2), threat).step == 0.25
    given = Inner(start="normal", eps=0.2, step=0.05, steps=3)
    assert resolve(given, threat) == InnerAttack("pgd", "normal", 0.2, 0.05, 3)


def test_the_noise_of_a_normal_start_is_normal_and_that_of_all_others_uniform() -> None:
    images = torch.zeros(100, 1, 10, 10)
    uniform, normal = (
        InnerAttack("pgd", "uniform", 0.1, 0.1, 1),
        InnerAttack("pgd", "normal", 0.1, 0.1, 1),
    )
    flat, bell = draw_noise(images, uniform, seeded(0)), draw_noise(images, normal, seeded(0))
    assert -1 <= flat.min() < -0.99
    assert 0.99 < flat.max() < 1
    assert flat.var().item() == pytest.approx(1 / 3, rel=0.03)
    assert bell.var().item() == pytest.approx(1, rel=0.03)
    assert bell.abs().max() > 3
    # These attacks ignore the start that PGD uses.
    for method in ("fgsm-rs", "n-fgsm"):
        assert torch.equal(
            draw_noise(images, InnerAttack(method, "normal", 0.1, 0.1, 1), seeded(0)), flat
        )


@settings(max_examples=60)
@given(
    attack=st.builds(
        InnerAttack,
        st.sampled_from(sorted(INNER)),
        st.sampled_from(["uniform", "normal"]),
        eps=st.floats(1e-3, 0.7),
        step=st.floats(1e-3, 1.0),
        steps=st.integers(1, 5),
    ),
    seed=st.integers(0, 2**31),
)
def test_inner_attacks_stay_where_they_may_be(attack: InnerAttack, seed: int) -> None:
    """Adversarial images stay in the range of images and in the ball.

    N-FGSM may leave the ball: it moves by up to two radii and a step.
    """
    images = torch.rand((5, 1, 4, 4), generator=seeded(seed))
    images[0], images[1] = 0.0, 1.0
    adversarial = inner(images, draw_noise(images, attack, seeded(seed)), attack)
    reach = 2 * attack.eps + attack.step if attack.method == "n-fgsm" else attack.eps
    assert adversarial.shape == images.shape
    assert (adversarial - images).abs().max() <= reach + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert not adversarial.requires_grad


def test_several_steps_of_inner_pgd_reach_what_is_nearest_within_the_ball() -> None:
    images = torch.rand((5, 1, 4, 4), generator=seeded(1))
    attack = InnerAttack("pgd", "normal", eps=0.2, step=0.01, steps=40)
    found = inner(images, draw_noise(images, attack, seeded(2)), attack)
    nearest = AIM.clamp(images - 0.2, images + 0.2)
    assert (found - nearest).abs().max() <= 0.01 + 1e-6
