"""Attacks in the L2 ball: against closed forms, and against AutoAttack's APGD."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rift.attacks import pgd
from rift.attacks.balls import BALLS
from rift.attacks.inner import INNER, draw_noise, resolve
from rift.config import Attack, AutoAttack, Inner
from rift.data.images import Images
from rift.errors import RiftError
from rift.evaluation.accuracy import withstands_pgd
from rift.evaluation.autoattack import evaluate_autoattack
from rift.evaluation.stages import stages, survived
from tests.attacks.linear import Linear, random_problem, seeded


def lengths(change: torch.Tensor) -> torch.Tensor:
    return change.flatten(1).double().square().sum(1).sqrt()


def test_l2_pgd_finds_the_known_maximum_of_a_linear_model() -> None:
    """The worst change is −y·ε·w/‖w‖, and the loss there is log(1 + exp(−2(y·w·x − ε‖w‖)))."""
    weight = torch.randn((2, 3, 3), generator=seeded(1))
    images = 0.4 + 0.2 * torch.rand((6, 2, 3, 3), generator=seeded(2))
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    sign = (1 - 2 * labels).float()
    model, eps = Linear(weight), 0.3
    found = pgd(model, images, labels, eps=eps, step=0.1, steps=30, norm="l2", generator=seeded(0))
    worst = images - eps * sign[:, None, None, None] * weight / weight.norm()
    torch.testing.assert_close(found, worst, atol=1e-3, rtol=0)
    loss = nn.functional.cross_entropy(model(found), labels, reduction="none")
    margin = sign * (images * weight).sum(dim=(1, 2, 3)) - eps * weight.norm()
    torch.testing.assert_close(loss, torch.log1p(torch.exp(-2 * margin)), atol=1e-4, rtol=0)


def test_a_gradient_too_small_to_be_squared_still_gives_a_whole_step() -> None:
    images = torch.full((2, 1, 2, 2), 0.5)
    weight = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    labels = torch.tensor([1, 1])
    found = pgd(Linear(weight * 1e-30), images, labels, eps=0.2, step=0.05, steps=200, norm="l2")
    torch.testing.assert_close(found - images, (0.2 * weight / 5).expand(2, 1, 2, 2))


def test_an_image_without_a_gradient_stays_at_its_start() -> None:
    images = torch.rand((3, 1, 4, 4), generator=seeded(0))
    labels = torch.zeros(3, dtype=torch.int64)
    found = pgd(Linear(torch.zeros(1, 4, 4)), images, labels, eps=0.1, step=0.1, steps=3, norm="l2")
    assert found.isfinite().all()
    assert (lengths(found - images) <= 0.1 + 1e-6).all()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    eps=st.floats(1e-3, 5),
    step=st.floats(1e-3, 5),
    steps=st.integers(1, 3),
    start=st.sampled_from(["uniform", "normal"]),
)
def test_l2_attacks_stay_in_the_ball_and_in_the_image_range(
    seed: int, eps: float, step: float, steps: int, start: str
) -> None:
    model, images, labels = random_problem(seed)
    threat = Attack(norm="l2", eps=eps, step=step, steps=steps)
    attack = resolve(Inner.model_validate({"start": start}), threat)
    found = [
        pgd(model, images, labels, **threat.model_dump(), restarts=2, generator=seeded(seed)),
        INNER["pgd"](
            model,
            images,
            lambda logits: nn.functional.cross_entropy(logits, labels, reduction="sum"),
            draw_noise(images, attack, seeded(seed)),
            attack,
        ),
    ]
    for adversarial in found:
        assert (lengths(adversarial - images) <= eps + 1e-6).all()
        assert adversarial.min() >= 0
        assert adversarial.max() <= 1


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), eps=st.floats(1e-2, 3), spread=st.floats(0, 3))
def test_the_l2_projection_is_the_nearest_point_of_the_ball(
    seed: int, eps: float, spread: float
) -> None:
    """Away from the borders of [0, 1]: on the segment to the image, and unchanged if inside."""
    centre = torch.full((4, 1, 3, 3), 0.5, dtype=torch.float64)
    change = torch.randn(centre.shape, generator=seeded(seed), dtype=torch.float64)
    change *= spread / 10
    reached = BALLS["l2"].around(centre, eps)(centre + change)
    factor = (eps / lengths(change).clamp(min=1e-300)).clamp(max=1)[:, None, None, None]
    expected = (centre + factor * change).clamp(0, 1)
    torch.testing.assert_close(reached, expected, atol=1e-12, rtol=0)


def test_the_random_start_is_uniform_in_the_l2_ball() -> None:
    """Of a ball in d dimensions, the share r^d lies within r, and no direction is preferred."""
    count, shape = 20_000, (1, 2, 2)
    noise = BALLS["l2"].noise((count, *shape), seeded(0), torch.device("cpu"), None)
    radius = lengths(noise)
    assert radius.max() <= 1 + 1e-6
    for r in (0.5, 0.8, 0.95):
        share = (radius <= r).double().mean().item()
        assert abs(share - r**4) < 4 * math.sqrt(r**4 * (1 - r**4) / count)
    # E‖x‖² = d/(d+2) = 4/6, divided equally among the four dimensions.
    covariance = noise.flatten(1).T @ noise.flatten(1) / count
    torch.testing.assert_close(covariance, torch.eye(4) / 6, atol=0.01, rtol=0)


def test_the_start_of_trades_is_the_same_in_l2() -> None:
    """The code of TRADES starts at 0.001·N(0, 1) for both norms."""
    images = torch.full((3, 1, 4, 4), 0.5)
    attack = resolve(Inner(start="normal"), Attack(norm="l2", eps=0.5, step=1e-9, steps=1))
    noise = draw_noise(images, attack, seeded(1))
    model = Linear(torch.ones(1, 4, 4))
    found = INNER["pgd"](model, images, lambda logits: logits[:, 0].sum(), noise, attack)
    torch.testing.assert_close(found, images + 0.001 * noise)


@pytest.mark.parametrize("method", ["fgsm-rs", "n-fgsm"])
def test_single_step_attacks_are_refused_in_l2(method: str) -> None:
    inner = Inner.model_validate({"method": method})
    with pytest.raises(RiftError, match=rf"inner\.method: {method} is published for linf alone"):
        resolve(inner, Attack(norm="l2"))
    with pytest.raises(RiftError, match=r"inner\.eps: is 2, .* at most 1 for linf"):
        resolve(Inner(eps=2), Attack())


def test_linf_is_the_default_and_as_it_was() -> None:
    """A slow reference with the arithmetic of one pixel, in the order of the random numbers."""
    images = torch.rand((6, 1, 3, 3), generator=seeded(4))
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    model = Linear(torch.randn((1, 3, 3), generator=seeded(5)))
    found = pgd(model, images, labels, eps=0.1, step=0.03, steps=3, generator=seeded(6))
    point = images + (2 * torch.rand(images.shape, generator=seeded(6)) - 1) * 0.1
    lower, upper = (images - 0.1).clamp(min=0), (images + 0.1).clamp(max=1)
    point = point.clamp(lower, upper)
    for _ in range(3):
        point = point.detach().requires_grad_()
        loss = nn.functional.cross_entropy(model(point), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, point)
        point = (point.detach() + 0.03 * gradient.sign()).clamp(lower, upper)
    assert torch.equal(found, point)


def test_autoattack_breaks_in_l2_what_pgd_breaks_and_stays_in_the_ball(
    prepared_model: nn.Module, digits: Images
) -> None:
    """APGD of pyautoattack and PGD break nearly the same images, a part of all."""
    few = digits.up_to(60)
    attack = Attack(norm="l2", eps=0.6, step=0.15, steps=20)
    chosen = AutoAttack(attacks=("apgd-ce",))
    broken_at = evaluate_autoattack(
        prepared_model, few, settings=chosen, eps=attack.eps, norm="l2", seed=0
    )
    theirs = torch.from_numpy(survived(broken_at.numpy(), stages("autoattack", chosen))["apgd-ce"])
    ours = withstands_pgd(prepared_model, few, attack=attack, restarts=2, generator=seeded(0))
    assert 5 < theirs.sum() < 55
    # Borderline images fall to one attack alone; which ones do depends on the processor.
    assert int((ours & ~theirs).sum()) <= 3
    assert int((theirs & ~ours).sum()) <= 3
    in_linf = evaluate_autoattack(prepared_model, few, settings=chosen, eps=attack.eps, seed=0)
    assert (in_linf == 2).sum() < theirs.sum()
