import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rift import models
from rift.config import Attack, Interpolate
from rift.data.images import Images
from rift.evaluation.accuracy import withstands_pgd
from rift.interpolation import Point, choose, interpolate, select, sweep
from rift.models.state import snapshot
from rift.seeds import generator


def test_the_ends_are_the_base_and_the_fine_tuned_weights_exactly(
    prepared_model: nn.Module,
) -> None:
    other = models.build("resnet8", classes=10, size=8, mean=(0.3,), std=(0.4,), seed=5).eval()
    images = torch.rand(16, 1, 8, 8)
    blank = models.build("resnet8", classes=10, size=8, mean=(0.3,), std=(0.4,)).eval()
    for alpha, end in ((0.0, prepared_model), (1.0, other)):
        blank.load_state_dict(interpolate(snapshot(prepared_model), snapshot(other), alpha))
        assert torch.equal(blank(images), end(images))


def test_every_floating_point_entry_is_interpolated_and_no_counter() -> None:
    base = {
        "weight": torch.tensor([0.0, 4.0]),
        "running_mean": torch.tensor([2.0]),
        "num_batches_tracked": torch.tensor(3),
    }
    tuned = {
        "weight": torch.tensor([1.0, 0.0]),
        "running_mean": torch.tensor([6.0]),
        "num_batches_tracked": torch.tensor(9),
    }
    middle = interpolate(base, tuned, 0.25)
    assert middle["weight"].tolist() == [0.25, 3.0]
    assert middle["running_mean"].tolist() == [3.0]
    assert middle["num_batches_tracked"] == 3


def test_with_earned_weights_there_are_two_directions() -> None:
    base = {"weight": torch.tensor([1.0]), "num_batches_tracked": torch.tensor(3)}
    earned = {"weight": torch.tensor([3.0]), "num_batches_tracked": torch.tensor(5)}
    tuned = {"weight": torch.tensor([13.0]), "num_batches_tracked": torch.tensor(9)}
    for gamma, alpha, expected in (
        (0, 0, 1.0),
        (1, 0, 3.0),
        (1, 1, 13.0),
        (0.5, 0, 2.0),
        (0, 0.25, 3.5),
        (0.5, 0.25, 4.5),
    ):
        found = interpolate(base, tuned, alpha, earned=earned, gamma=gamma)
        assert found["weight"].item() == expected
        assert found["num_batches_tracked"] == 3
    third = {"weight": torch.tensor([0.1])}
    for gamma, alpha, end in ((0, 0, base), (1, 0, earned), (1, 1, third)):
        found = interpolate(base, third, alpha, earned=earned, gamma=gamma)
        assert torch.equal(found["weight"], end["weight"])


accuracies = st.integers(0, 20).map(lambda hits: 5.0 * hits)


@given(
    points=st.lists(st.tuples(accuracies, accuracies), min_size=1, max_size=11),
    tolerance=st.sampled_from([0.0, 5.0, 7.5]),
)
def test_the_choice_is_the_most_accurate_of_the_robust_points(
    points: list[tuple[float, float]], tolerance: float
) -> None:
    sweep_points = [
        Point(alpha / 10, standard, adversarial)
        for alpha, (standard, adversarial) in enumerate(points)
    ]
    chosen = select(sweep_points, tolerance)
    base = sweep_points[0]
    assert chosen.adversarial_accuracy >= base.adversarial_accuracy - tolerance
    assert chosen.standard_accuracy >= base.standard_accuracy
    for point in sweep_points:
        if point.adversarial_accuracy >= base.adversarial_accuracy - tolerance:
            assert point.standard_accuracy <= chosen.standard_accuracy


def test_of_equal_points_the_more_robust_then_the_closer_to_the_base_is_chosen() -> None:
    assert select([Point(0, 80, 50), Point(0.5, 82, 50), Point(1, 82, 51)], 0.1).alpha == 1
    assert select([Point(0, 80, 50), Point(0.5, 80, 50), Point(1, 80, 49.95)], 0.1).alpha == 0
    assert select([Point(0, 80, 50.0), Point(0.5, 81, 49.9), Point(1, 82, 49.89)], 0.1).alpha == 0.5


def test_a_loss_of_exactly_the_tolerance_is_allowed() -> None:
    """0.16 points are 8 of 5,000 images, but 100·2055/5000 − 0.16 > 100·2047/5000 by rounding."""
    assert (
        select([Point(0, 80, 100 * 2055 / 5000), Point(1, 82, 100 * 2047 / 5000)], 0.16).alpha == 1
    )


def test_with_a_confidence_the_upper_limit_of_the_loss_decides() -> None:
    base = Point(0, 80, 50, adversarial_error=0)
    gain = Point(1, 82, 50.3, adversarial_error=0.25)
    # One-sided: 1.645 standard errors at 95%, 1.282 at 90%; limits 0.11 and 0.02 points of loss.
    assert select([base, gain], 0.1, 0.95) == base
    assert select([base, gain], 0.1, 0.9) == gain
    # Two points share the error: 1.645 standard errors at 90%.
    other = Point(0.5, 81, 49.0, adversarial_error=0.25)
    assert select([base, other, gain], 0.1, 0.9) == base
    assert select([base, other, gain], 0.12, 0.9) == gain
    # The base itself, and a point that classifies every image as the base does, always count.
    assert select([base], 0, 0.95) == base
    same = Point(1, 81, 50, adversarial_error=0)
    assert select([base, same], 0, 0.95) == same


def test_the_confidence_holds_where_the_papers_rule_is_fooled_by_chance() -> None:
    """All points lose 0.6 points in truth, so every choice but the base's is wrong."""
    random = np.random.default_rng(0)
    images, points, sweeps = 5000, 10, 300
    wrong = {None: 0, 0.95: 0}
    for _ in range(sweeps):
        lost, gained = random.multinomial(images, (0.018, 0.012, 0.97), size=points)[:, :2].T
        changes = (gained - lost) / images
        errors = np.sqrt((gained + lost) / images - changes**2) / np.sqrt(images)
        swept = [Point(0, 80, 50, adversarial_error=0)]
        for number, (change, error) in enumerate(zip(changes, errors, strict=True), start=1):
            swept.append(
                Point(number / points, 81, 50 + 100 * change, adversarial_error=100 * error)
            )
        for confidence in wrong:
            wrong[confidence] += not select(swept, 0.6, confidence).is_base
    assert wrong[0.95] <= 0.08 * sweeps
    assert wrong[None] >= 0.9 * sweeps


def test_a_choice_brings_the_weights_of_its_point() -> None:
    points = [Point(0, 80, 50), Point(0.5, 82, 50), Point(1, 84, 45)]
    base, tuned = {"weight": torch.tensor([0.0, 4.0])}, {"weight": torch.tensor([1.0, 0.0])}
    selection = choose(points, base, tuned, tolerance=0.1)
    assert (selection.base, selection.selected) == (points[0], points[1])
    assert selection.state["weight"].tolist() == [0.5, 2.0]


def test_two_directions_are_swept_and_the_choice_may_lie_beside_both(
    prepared_model: nn.Module, digits: Images
) -> None:
    base = snapshot(prepared_model)
    earned = {name: theta.clone() for name, theta in base.items()}
    earned["linear.bias"] += torch.linspace(0, 0.5, 10)
    tuned = {name: theta.clone() for name, theta in earned.items()}
    tuned["linear.bias"] -= 1000 * torch.eye(10)[3]  # class 3 is never predicted
    few = digits.up_to(60)
    points = sweep(
        prepared_model,
        base,
        tuned,
        few,
        settings=Interpolate(alphas=(0, 1), restarts=1),
        attack=Attack(eps=0.05, step=0.02, steps=2),
        seed=0,
        earned=earned,
        gammas=(0, 0.5),
    )
    assert [(point.gamma, point.alpha) for point in points] == [(0, 0), (0, 1), (0.5, 0), (0.5, 1)]
    for point in points:
        state = interpolate(base, tuned, point.alpha, earned=earned, gamma=point.gamma)
        prepared_model.load_state_dict(state)
        with torch.no_grad():
            hits = prepared_model(few.floats()).argmax(1) == few.labels
        assert point.standard_accuracy == pytest.approx(100 * hits.double().mean().item())
    assert [point.is_base for point in points] == [True, False, False, False]
    better = [
        Point(0, 80, 50, 0),
        Point(1, 84, 45, 0),
        Point(0, 81, 52, 0.5),
        Point(1, 83, 50, 0.5),
    ]
    found = choose(better, base, tuned, tolerance=0.1, earned=earned)
    assert found.selected == better[3]
    assert found.base == better[0]
    expected = interpolate(base, tuned, 1, earned=earned, gamma=0.5)
    assert torch.equal(found.state["linear.bias"], expected["linear.bias"])


def test_the_sweep_measures_the_interpolated_models(
    prepared_model: nn.Module, digits: Images
) -> None:
    base = snapshot(prepared_model)
    tuned = snapshot(models.build("resnet8", classes=10, size=8, mean=(0.3,), std=(0.4,), seed=5))
    few = digits.up_to(100)
    settings = Interpolate(alphas=(0, 0.5, 1), restarts=1)
    points = sweep(
        prepared_model,
        base,
        tuned,
        few,
        settings=settings,
        attack=Attack(eps=0.05, step=0.02, steps=3),
        seed=0,
    )
    assert all(
        torch.equal(value, base[name]) for name, value in prepared_model.state_dict().items()
    )
    with torch.no_grad():
        logits = prepared_model(few.floats())
    assert [point.alpha for point in points] == [0, 0.5, 1]
    assert points[0].standard_accuracy == pytest.approx(
        100 * (logits.argmax(1) == few.labels).double().mean().item()
    )
    assert points[0].adversarial_accuracy < points[0].standard_accuracy
    assert points[2].standard_accuracy < 40


def test_a_sweep_in_bfloat16_attacks_in_bfloat16_alone(
    prepared_model: nn.Module, digits: Images
) -> None:
    seen: set[tuple[bool, torch.dtype]] = set()
    linear = prepared_model.get_submodule("linear")
    linear.register_forward_hook(
        lambda _module, _inputs, logits: seen.add((logits.requires_grad, logits.dtype))
    )
    few = digits.up_to(50)
    state = snapshot(prepared_model)
    settings = Interpolate(alphas=(0, 1), restarts=1, precision="bfloat16")
    points = sweep(
        prepared_model,
        state,
        state,
        few,
        settings=settings,
        attack=Attack(eps=0.05, step=0.02, steps=3),
        seed=0,
    )
    assert (True, torch.bfloat16) in seen
    assert (True, torch.float32) not in seen
    # The accuracy on clean images is measured in float32.
    assert (False, torch.float32) in seen
    assert 0 < points[0].adversarial_accuracy < points[0].standard_accuracy


def test_a_confidence_needs_the_paired_error_of_each_point(
    prepared_model: nn.Module, digits: Images
) -> None:
    base = snapshot(prepared_model)
    tuned = {name: theta.clone() for name, theta in base.items()}
    tuned["linear.bias"] += torch.linspace(0, 1, 10)
    few = digits.up_to(200)
    attack = Attack(eps=0.1, step=0.05, steps=3)
    points = sweep(
        prepared_model,
        base,
        tuned,
        few,
        settings=Interpolate(alphas=(0, 1), restarts=1, confidence=0.9),
        attack=attack,
        seed=0,
    )
    withstood = []
    for state in (base, tuned):
        prepared_model.load_state_dict(state)
        starts = generator(0, "sweep", few.device)
        found = withstands_pgd(prepared_model, few, attack=attack, restarts=1, generator=starts)
        withstood.append(found.numpy())
    lost = int((withstood[0] & ~withstood[1]).sum())
    gained = int((~withstood[0] & withstood[1]).sum())
    assert lost + gained > 0
    change = (gained - lost) / 200
    expected = 100 * ((lost + gained) / 200 - change**2) ** 0.5 / 200**0.5
    assert points[0].adversarial_error == 0
    assert points[1].adversarial_error == pytest.approx(expected)
    assert points[1].adversarial_accuracy - points[0].adversarial_accuracy == pytest.approx(
        100 * change
    )
