"""Independent calculations of losses, weight perturbation, schedules and averages.

They also cover batches that are divided into parts.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, SupportsFloat

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift import models
from rift.artifacts.resume import State, Work
from rift.attacks.ascent import Objective
from rift.attacks.inner import INNER, InnerAttack
from rift.config import (
    Attack,
    Augment,
    Awp,
    Inner,
    InnerName,
    Mart,
    RegimeName,
    ScheduleName,
    Score,
    Trades,
    Train,
    TrainingSettings,
)
from rift.data.images import Images
from rift.models.state import snapshot
from rift.training import awp, measuring
from rift.training.averaging import Average
from rift.training.history import Trained, TrainingEpoch
from rift.training.parallel import ALONE
from rift.training.regimes import REGIMES, Regime, mart, pgd
from rift.training.schedules import SCHEDULES
from rift.training.step import BatchGradient
from rift.training.trainer import train

CLASSES = 4
ATTACK = Attack(eps=0.1, step=0.04, steps=2)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=seeded(seed), dtype=torch.float64)


IMAGES, LABELS = random(6, 1, 3, 3, seed=0), torch.tensor([0, 1, 2, 3, 1, 0])
ADVERSARIAL = (IMAGES + 0.4 * (random(6, 1, 3, 3, seed=1) - 0.5)).clamp(0, 1)


def scattered(model: nn.Module) -> nn.Module:
    """Return the model in float64. No weight is near 0 or near its initial value."""
    stream = seeded(2)
    with torch.no_grad():
        for parameter in model.double().parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=stream, dtype=torch.float64), alpha=0.7
            )
    return model


@pytest.fixture
def tiny() -> nn.Module:
    return scattered(nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, CLASSES)))


@pytest.fixture
def normed() -> nn.Module:
    """Return a network with batch norm, in training mode.

    Its running statistics differ clearly from the statistics of its images.
    """
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(27, CLASSES),
    )
    model.get_buffer("1.running_mean").add_(0.5)
    return scattered(model).train()


def settings_of(smoothing: float = 0, accumulate: int = 1, **sections: object) -> TrainingSettings:
    own = {
        "trades": Trades(beta=3),
        "mart": Mart(beta=2),
        "score": Score(beta=4, clip=0.4),
        "awp": Awp(gamma=0.1),
    }
    chosen = Train(label_smoothing=smoothing, accumulate=accumulate)
    return TrainingSettings.model_validate({"train": chosen, "attack": ATTACK, **own, **sections})


def gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def cross_entropy(probabilities: Tensor, smoothing: float) -> Tensor:
    target = (1 - smoothing) * torch.eye(CLASSES, dtype=torch.float64)[LABELS] + smoothing / CLASSES
    return -(target * probabilities.log()).sum(1).mean()


def written_out(regime: RegimeName, clean: Tensor, attacked: Tensor, smoothing: float) -> Tensor:
    """Return the loss of a regime by its definition, from the probabilities of all classes."""
    divergence = (clean * (clean / attacked).log()).sum(1)
    match regime:
        case "standard":
            return cross_entropy(clean, smoothing)
        case "pgd" | "awp":
            return cross_entropy(attacked, smoothing)
        case "trades" | "trades-awp":
            return cross_entropy(clean, smoothing) + 3 * divergence.mean()
        case "score":
            target = torch.eye(CLASSES, dtype=torch.float64)[LABELS] * (1 - smoothing)
            natural = ((clean - target - smoothing / CLASSES) ** 2).sum(1)
            each = natural + 4 * ((clean - attacked) ** 2).sum(1)
            return torch.stack([max(one - 0.4, 0 * one) for one in each]).mean()
        case "mart":
            wrong = [
                max(row[k] for k in range(CLASSES) if k != y)
                for row, y in zip(attacked, LABELS, strict=True)
            ]
            unsure = 1 - clean[range(len(LABELS)), LABELS]
            margin = -(1 - torch.stack(wrong)).log().mean()
            return cross_entropy(attacked, smoothing) + margin + 2 * (divergence * unsure).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("regime", REGIMES)
def test_a_loss_and_its_gradients_are_those_of_its_definition(
    regime: RegimeName, smoothing: float, tiny: nn.Module
) -> None:
    found, logits = REGIMES[regime].loss(tiny, IMAGES, ADVERSARIAL, LABELS, settings_of(smoothing))
    expected = written_out(regime, tiny(IMAGES).softmax(1), tiny(ADVERSARIAL).softmax(1), smoothing)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, tiny), gradients(expected, tiny))
    assert torch.equal(logits, tiny(IMAGES if regime == "standard" else ADVERSARIAL))


@pytest.mark.parametrize("regime", REGIMES)
def test_a_loss_rises_as_its_gradients_say(regime: RegimeName, tiny: nn.Module) -> None:
    """Central differences along a random direction show that no part of a loss is detached."""

    def loss() -> Tensor:
        return REGIMES[regime].loss(tiny, IMAGES, ADVERSARIAL, LABELS, settings_of())[0]

    weights, slopes = list(tiny.parameters()), gradients(loss(), tiny)
    direction = [
        random(*weight.shape, seed=5 + number) - 0.5 for number, weight in enumerate(weights)
    ]
    step, values = 1e-5, []
    for sign in (1, -2):
        torch._foreach_add_([weight.data for weight in weights], direction, alpha=sign * step)
        values.append(loss().item())
    along = sum((slope * way).sum().item() for slope, way in zip(slopes, direction, strict=True))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(along, rel=1e-6)


@pytest.mark.parametrize("regime", ["trades", "mart", "score"])
def test_the_clean_side_of_a_comparison_is_trained_too(regime: RegimeName, tiny: nn.Module) -> None:
    """If the clean predictions of the comparison were constant, the gradients would differ."""
    found, _ = REGIMES[regime].loss(tiny, IMAGES, ADVERSARIAL, LABELS, settings_of())
    clean, attacked = tiny(IMAGES).softmax(1), tiny(ADVERSARIAL).softmax(1)
    fixed = written_out(regime, clean.detach(), attacked, 0)
    if regime != "mart":
        fixed = fixed + cross_entropy(clean, 0) - cross_entropy(clean.detach(), 0)
    torch.testing.assert_close(found, fixed)
    for right, wrong in zip(gradients(found, tiny), gradients(fixed, tiny), strict=True):
        assert (right - wrong).norm() > 0.01 * right.norm()


@pytest.mark.parametrize("margin", [30.0, 200.0, 1e4])
def test_mart_stays_finite_where_the_network_is_sure_of_a_wrong_class(margin: float) -> None:
    """For class 0, logits (0, m, 0, 0) give log(3 + eᵐ) + log((3 + eᵐ)/3).

    This is 2m − log 3 where p rounds to 1.
    """
    images = torch.tensor([0, margin, 0, 0]).reshape(1, 1, 2, 2)
    clean, attacked = images.clone().requires_grad_(), images.clone().requires_grad_()
    found, _ = mart.loss(nn.Flatten(), clean, attacked, torch.tensor([0]), settings_of())
    assert attacked.softmax(-1).max() == 1
    torch.testing.assert_close(found, torch.tensor(2 * margin - math.log(3)))
    of_clean, of_attacked = torch.autograd.grad(found, [clean, attacked])
    torch.testing.assert_close(of_attacked.flatten(), torch.tensor([-4 / 3, 2, -1 / 3, -1 / 3]))
    torch.testing.assert_close(of_clean, torch.zeros_like(clean))


def test_mart_stays_finite_where_attack_and_image_are_told_apart_for_sure() -> None:
    """Under attack, one image changes from surely right to surely wrong, the other one back."""
    right, wrong = torch.tensor([300.0, 0, 0, 0]), torch.tensor([0, 300.0, 0, 0])
    clean = torch.stack([right, wrong]).reshape(2, 1, 2, 2).requires_grad_()
    attacked = torch.stack([wrong, right]).reshape(2, 1, 2, 2).requires_grad_()
    found, _ = mart.loss(nn.Flatten(), clean, attacked, torch.tensor([0, 0]), settings_of())
    # Only the second image has a weight, and its divergence is 300.
    torch.testing.assert_close(found, torch.tensor((600 - math.log(3) + 2 * 300) / 2))
    assert all(
        gradient.isfinite().all() for gradient in torch.autograd.grad(found, [clean, attacked])
    )


@dataclass
class Seen:
    """The arguments of a call of an inner attack."""

    objective: Objective
    training: bool


@pytest.mark.parametrize("regime", [name for name in REGIMES if name != "standard"])
def test_what_an_inner_attack_raises_is_told_from_predictions_in_eval_mode(
    regime: RegimeName, normed: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Seen] = []

    def spy(
        model: nn.Module, images: Tensor, objective: Objective, _noise: Tensor, _attack: InnerAttack
    ) -> Tensor:
        seen.append(Seen(objective, model.training))
        return images

    monkeypatch.setitem(INNER, "pgd", spy)
    before = copy.deepcopy(normed).eval()
    BatchGradient(normed, REGIMES[regime], settings_of(), seeded(0), ALONE)(IMAGES, LABELS, 1)
    (call,) = seen
    assert call.training == (regime == "awp")

    logits = 3 * random(6, CLASSES, seed=3)
    clean, attacked = before(IMAGES).softmax(1), logits.softmax(1)
    match regime:
        case "trades" | "trades-awp":
            expected = (clean * (clean / attacked).log()).sum()
        case "score":
            expected = ((clean - attacked) ** 2).sum()
        case _:
            expected = -attacked[range(6), LABELS].log().sum()
    torch.testing.assert_close(call.objective(logits), expected)
    assert not call.objective(logits).requires_grad


@pytest.mark.parametrize("method", INNER)
@pytest.mark.parametrize("regime", ["pgd", "trades", "score", "awp"])
def test_an_inner_attack_leaves_no_trace_in_the_model(
    regime: RegimeName, method: InnerName, normed: nn.Module
) -> None:
    def traces() -> list[object]:
        return [
            [module.training for module in normed.modules()],
            [parameter.requires_grad for parameter in normed.parameters()],
            [value.tolist() for value in normed.state_dict().values()],
            [
                None if parameter.grad is None else parameter.grad.tolist()
                for parameter in normed.parameters()
            ],
        ]

    found: list[list[object]] = []

    def loss(
        model: nn.Module, images: Tensor, adversarial: Tensor, *_: object
    ) -> tuple[Tensor, Tensor]:
        found.append(traces())
        assert not torch.equal(images, adversarial)
        assert not adversarial.requires_grad
        logits = model(adversarial)
        return logits.sum(), logits

    normed.get_submodule("3").eval()
    bias = normed.get_parameter("0.bias")
    bias.grad = torch.ones_like(bias)
    before = traces()
    spied = replace(REGIMES[regime], loss=loss, perturbs_weights=False)
    settings = settings_of(inner=Inner(method=method))
    BatchGradient(normed, spied, settings, seeded(0), ALONE)(IMAGES, LABELS, 1)
    assert found == [before]


@dataclass
class Call:
    """The arguments of a call of the loss, and the state of the model at that time."""

    state: dict[str, Tensor]
    adversarial: Tensor
    training: bool


@dataclass
class Spy:
    """Wraps the loss of a regime and records its calls."""

    regime: Regime
    calls: list[Call] = field(default_factory=list)

    def loss(
        self,
        model: nn.Module,
        images: Tensor,
        adversarial: Tensor,
        labels: Tensor,
        settings: TrainingSettings,
    ) -> tuple[Tensor, Tensor]:
        self.calls.append(Call(snapshot(model), adversarial, model.training))
        return self.regime.loss(model, images, adversarial, labels, settings)

    @property
    def spied(self) -> Regime:
        return replace(self.regime, loss=self.loss)


@pytest.mark.parametrize(
    ("regime", "statistics", "passes"),
    [
        ("pgd", "loss", "a"),
        ("pgd", "attacked", "a"),
        ("pgd", "clean", "c"),
        ("pgd", "published", "acc"),
        ("trades", "loss", "ca"),
        ("trades", "attacked", "a"),
        ("trades", "published", "cac"),
        ("awp", "loss", "a"),
        ("awp", "clean", "c"),
        ("score", "published", "ca"),
    ],
)
def test_the_running_statistics_see_the_images_that_the_setting_names(
    regime: RegimeName, statistics: Any, passes: str, normed: nn.Module
) -> None:
    before = copy.deepcopy(normed)
    spy = Spy(REGIMES[regime])
    settings = settings_of(train=Train(statistics=statistics), awp=Awp(warmup=1))
    BatchGradient(normed, spy.spied, settings, seeded(0), ALONE)(IMAGES, LABELS, 1)
    mean = before.get_buffer("1.running_mean")
    for one in passes:
        images = IMAGES if one == "c" else spy.calls[0].adversarial
        mean = 0.9 * mean + 0.1 * before.get_submodule("0")(images).mean((0, 2, 3))
    torch.testing.assert_close(normed.get_buffer("1.running_mean"), mean)


def test_a_published_attack_in_training_mode_moves_the_statistics(normed: nn.Module) -> None:
    first = copy.deepcopy(normed)
    settings = settings_of(train=Train(statistics="published"), awp=Awp(warmup=1))
    BatchGradient(normed, REGIMES["awp"], settings, seeded(0), ALONE)(IMAGES, LABELS, 1)
    batches = normed.get_buffer("1.num_batches_tracked") - first.get_buffer("1.num_batches_tracked")
    assert int(batches) == ATTACK.steps + 2


def test_no_weight_perturbation_moves_class_tokens_and_position_embeddings() -> None:
    model = models.build("vit-small", classes=3, size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    moved = {id(parameter) for parameter in awp.perturbed_weights(model)}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in moved}
    assert not any("token" in name or "pos" in name for name in names)
    assert sum("attn" in name for name in names) > 0


@pytest.mark.parametrize("regime", ["awp", "trades-awp"])
def test_weights_are_perturbed_along_the_gradient_and_back_again(
    regime: RegimeName, normed: nn.Module
) -> None:
    """Each weight moves by γ times its norm.

    The remaining gradients are those at the perturbed weights, and the running statistics have
    changed once.
    """
    start, reference = snapshot(normed), copy.deepcopy(normed)
    spy = Spy(REGIMES[regime])
    loss, _ = BatchGradient(normed, spy.spied, settings_of(), seeded(0), ALONE)(IMAGES, LABELS, 1)
    at_start, at_perturbed = spy.calls
    assert at_start.training
    assert at_perturbed.training
    assert torch.equal(at_start.adversarial, at_perturbed.adversarial)
    assert all(torch.equal(value, start[name]) for name, value in at_start.state.items())

    def by_hand() -> Tensor:
        # AWP does not use clean images.
        if regime == "awp":
            return cross_entropy(reference(at_start.adversarial).softmax(1), 0)
        return written_out(
            regime, reference(IMAGES).softmax(1), reference(at_start.adversarial).softmax(1), 0
        )

    named = list(reference.named_parameters())
    for (name, weight), slope in zip(named, gradients(by_hand(), reference), strict=True):
        moved = name in ("0.weight", "4.weight")
        step = (
            0.1 * weight.square().sum().sqrt() * slope / slope.square().sum().sqrt() if moved else 0
        )
        torch.testing.assert_close(
            at_perturbed.state[name] - start[name], step + torch.zeros_like(weight)
        )
        weight.data += step
    reference.load_state_dict(
        {name: start[name] for name, _ in reference.named_buffers()}, strict=False
    )
    expected = by_hand()
    torch.testing.assert_close(loss.double(), expected.detach(), check_dtype=False)
    torch.testing.assert_close(
        [parameter.grad for parameter in normed.parameters()], gradients(expected, reference)
    )
    assert all(torch.equal(parameter, start[name]) for name, parameter in normed.named_parameters())
    torch.testing.assert_close(dict(normed.named_buffers()), dict(reference.named_buffers()))


def test_without_its_turn_a_regime_that_perturbs_weights_does_not(normed: nn.Module) -> None:
    spy = Spy(REGIMES["awp"])
    settings = settings_of(awp=Awp(warmup=1))
    BatchGradient(normed, spy.spied, settings, seeded(0), ALONE)(IMAGES, LABELS, 1)
    assert len(spy.calls) == 1


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("regime", REGIMES)
def test_a_batch_in_parts_gives_the_gradients_of_the_whole(
    regime: RegimeName, parts: int, tiny: nn.Module
) -> None:
    """Five images give uneven parts. The step adds to existing gradients."""
    found = []
    for accumulate in (1, parts):
        tiny.zero_grad()
        tiny.get_parameter("1.bias").grad = torch.ones(5, dtype=torch.float64)
        step = BatchGradient(
            tiny, REGIMES[regime], settings_of(accumulate=accumulate), seeded(0), ALONE
        )
        outcome = step(IMAGES[:5], LABELS[:5], 1)
        found.append([*outcome, *(parameter.grad for parameter in tiny.parameters())])
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize(
    ("images", "parts", "sizes"), [(10, 4, [3, 3, 2, 2]), (2, 3, [1, 1]), (7, 3, [3, 2, 2])]
)
def test_no_part_is_smaller_than_it_must_be(
    images: int, parts: int, sizes: list[int], tiny: nn.Module
) -> None:
    """The parts have nearly equal sizes.

    Batch norm cannot normalise a single value, and all processes that share a batch must compute
    the same number of parts.
    """
    spy = Spy(REGIMES["standard"])
    step = BatchGradient(tiny, spy.spied, settings_of(accumulate=parts), seeded(0), ALONE)
    step(random(images, 1, 3, 3, seed=4), torch.zeros(images, dtype=torch.int64), 1)
    assert [len(call.adversarial) for call in spy.calls] == sizes


@pytest.mark.parametrize(
    ("schedule", "known"),
    [
        ("step", {0: 0.2, 3.99: 0.2, 4.01: 0.02, 5.99: 0.02, 6.01: 0.002, 9.9: 0.002}),
        (
            "cosine",
            {
                0: 0.2,
                2.5: 0.1 + 0.1 * math.sqrt(0.5),
                5: 0.1,
                7.5: 0.1 - 0.1 * math.sqrt(0.5),
                10: 0,
            },
        ),
        ("one-cycle", {0: 0, 1: 0.05, 2: 0.1, 4: 0.2, 5.5: 0.15, 7: 0.1, 8.5: 0.05, 10: 0}),
    ],
)
def test_a_schedule_goes_through_known_points(
    schedule: ScheduleName, known: dict[float, float]
) -> None:
    settings = Train(epochs=10, learning_rate=0.2, milestones=(4, 6))
    assert [SCHEDULES[schedule](settings, done) for done in known] == pytest.approx(
        list(known.values()), abs=1e-12
    )


def test_an_average_is_that_of_a_slow_loop_and_steps_aside_exactly() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    average = Average(model, 0.5)
    slow = {name: value.flatten().tolist() for name, value in model.state_dict().items()}
    for step in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(generator=seeded(step))
        model(torch.rand((4, 2), generator=seeded(100 + step)))
        average.update(model)
        decay = min(
            0.5,
            [1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 9 / 18, 10 / 19, 1, 1][
                step
            ],
        )
        for name, value in model.state_dict().items():
            new = value.flatten().tolist()
            slow[name] = [
                decay * old + (1 - decay) * now for old, now in zip(slow[name], new, strict=True)
            ]
            if name.endswith("num_batches_tracked"):
                slow[name] = new
    own = snapshot(model)
    with pytest.raises(RuntimeError, match="oops"), average.within(model):
        for name, value in model.state_dict().items():
            assert value.flatten().tolist() == pytest.approx(slow[name])
        assert not torch.equal(model.get_parameter("0.weight"), own["0.weight"])
        raise RuntimeError("oops")
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


BATCH, BATCHES = 10, 2


class Watched(Work):
    """A training that records its states at the end of every epoch."""

    def __init__(self, look: Callable[[State], None]) -> None:
        super().__init__()
        self.look = look

    def save(self, state: State) -> None:
        self.look(state)


@dataclass
class Story:
    """A training with given accuracies in percent, one entry per epoch.

    Attributes:
        training: on the training images.
        adversarial: of the last weights, on the selection split under PGD.
        standard: of the last weights, on the clean selection split.
        averaged: of the averaged weights, under PGD; none if there are none.
    """

    training: list[int]
    adversarial: list[int]
    standard: list[int]
    averaged: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    averages: list[dict[str, Tensor]] = field(default_factory=list)
    lasts: list[dict[str, Tensor]] = field(default_factory=list)
    epoch: int = 0

    def loss(
        self, model: nn.Module, images: Tensor, _: Tensor, labels: Tensor, *__: object
    ) -> tuple[Tensor, Tensor]:
        right = torch.arange(len(labels)) < len(labels) * self.training[self.epoch] / 100
        logits = F.one_hot(torch.where(right, labels, (labels + 1) % CLASSES), CLASSES).double()
        return model(images).square().mean(), logits

    def run(
        self,
        monkeypatch: pytest.MonkeyPatch,
        method: InnerName = "fgsm-rs",
        keeping: dict[str, object] | None = None,
    ) -> Trained:
        # Each epoch measures the selection split, the training images and, if there are averaged
        # weights, the selection split with these.
        turns = 3 if self.averaged else 2

        def outcomes(accuracy: int) -> Tensor:
            return torch.arange(BATCH) < BATCH * accuracy / 100

        def clean(*_: object) -> Tensor:
            return outcomes(self.standard[self.epoch])

        calls = iter(range(1000))

        def attacked(*_: object, **__: object) -> Tensor:
            of_averaged = next(calls) % turns == 2
            return outcomes((self.averaged if of_averaged else self.adversarial)[self.epoch])

        monkeypatch.setattr(measuring, "correct", clean)
        monkeypatch.setattr(measuring, "withstands_pgd", attacked)
        monkeypatch.setattr(measuring, "WATCHED", BATCH)

        def look(state: State) -> None:
            if state["average"] is not None:
                self.averages.append(
                    {name: value.clone() for name, value in state["average"]["state"].items()}
                )
            self.lasts.append({name: value.clone() for name, value in state["model"].items()})

        def after_epoch(_: Trained) -> None:
            self.epoch += 1

        def progress(done: float, total: int, note: str = "", **_: SupportsFloat) -> None:
            self.notes += [note] if note else []

        images = torch.arange(9 * BATCH * BATCHES, dtype=torch.uint8).reshape(-1, 1, 3, 3)
        data = Images(images, torch.arange(len(images)) % CLASSES)
        chosen = Train.model_validate(
            {
                "epochs": len(self.training),
                "batch_size": BATCH,
                "learning_rate": 0.01,
                **(keeping or {}),
            }
            | {"averaging": 0.9 if self.averaged else 0}
        )
        settings = TrainingSettings(
            train=chosen,
            attack=ATTACK,
            inner=Inner(method=method),
            augment=Augment(crop=0, flip=False),
        )
        return train(
            nn.Sequential(nn.Flatten(), nn.Linear(9, CLASSES)),
            data,
            data.up_to(BATCH),
            regime=Regime(self.loss, pgd.objective),
            settings=settings,
            seed=0,
            work=Watched(look),
            after_epoch=after_epoch,
            progress=progress,
        )


def rows(trained: Trained) -> list[TrainingEpoch]:
    """Return the history, and check that all rows have a PGD accuracy."""
    found = [row for row in trained.history if isinstance(row, TrainingEpoch)]
    assert len(found) == len(trained.history)
    return found


def test_catastrophic_overfitting_is_told_and_the_best_epoch_stays_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From epoch 3, PGD accuracy is less than half of the best, but training accuracy is higher."""
    story = Story(
        training=[40, 50, 60, 80, 90],
        adversarial=[30, 50, 20, 10, 50],
        standard=[50, 50, 60, 60, 40],
    )
    trained = story.run(monkeypatch)
    assert [row.train_accuracy for row in trained.history] == story.training
    assert [row.adversarial_accuracy for row in rows(trained)] == story.adversarial
    assert (trained.kept, trained.collapsed) == (2, 3)
    assert all(torch.equal(value, story.lasts[1][name]) for name, value in trained.state.items())
    warned = ["CATASTROPHIC OVERFITTING" in note for note in story.notes]
    assert warned == [False, False, True, True, False]
    assert "fell from 50.00% (epoch 2) to 20.00%" in story.notes[2]
    assert "rose from 50.00% to 60.00%; epoch 2 stays kept" in story.notes[2]


@pytest.mark.parametrize(
    ("training", "adversarial", "method"),
    [
        # Exactly half of the best accuracy is not less than half.
        ([40, 60], [40, 20], "fgsm-rs"),
        # Training accuracy did not rise, so the cause is another one.
        ([40, 40], [40, 10], "n-fgsm"),
        # Training uses the attack that is measured.
        ([40, 60], [40, 10], "pgd"),
    ],
)
def test_other_falls_of_accuracy_are_not_called_catastrophic_overfitting(
    training: list[int], adversarial: list[int], method: InnerName, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(training, adversarial, [50, 50])
    assert story.run(monkeypatch, method).collapsed is None
    assert not any("CATASTROPHIC" in note for note in story.notes)


@pytest.mark.parametrize(
    ("standard", "averaged", "kept"),
    [
        # Of equally robust epochs, the more accurate one is kept.
        ([50, 60, 60], [], 2),
        ([50, 50, 50], [10, 50, 10], 2),
    ],
)
def test_a_warning_of_overfitting_names_the_epoch_that_is_kept(
    standard: list[int], averaged: list[int], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story([40, 50, 60], [40, 40, 10], standard, averaged)
    trained = story.run(monkeypatch)
    assert (trained.kept, trained.collapsed) == (kept, 3)
    assert f"epoch {kept} stays kept" in story.notes[2]


@pytest.mark.parametrize(
    ("adversarial", "averaged", "kept"),
    [
        ([10, 20, 30], [20, 40, 30], (2, True)),
        ([10, 50, 30], [20, 40, 30], (2, False)),
        ([10, 20], [20, 20], (1, True)),
    ],
)
def test_averaged_weights_are_kept_where_they_are_better(
    adversarial: list[int],
    averaged: list[int],
    kept: tuple[int, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = Story([50] * len(averaged), adversarial, [60] * len(averaged), averaged)
    trained = story.run(monkeypatch, "pgd")
    assert [row.adversarial_accuracy for row in rows(trained)] == adversarial
    assert [row.averaged_adversarial_accuracy for row in rows(trained)] == averaged
    assert [row.averaged_standard_accuracy for row in rows(trained)] == [60] * len(averaged)
    assert (trained.kept, trained.averaged) == kept
    epoch = trained.kept - 1
    right, wrong = story.averages[epoch]["1.weight"], story.lasts[epoch]["1.weight"]
    assert not torch.equal(right, wrong)
    assert torch.equal(trained.state["1.weight"], right if trained.averaged else wrong)


@pytest.mark.parametrize(
    ("keep", "level", "kept"),
    [
        ("most-robust", 0.05, 2),
        # One of ten images is lost: p = 1.
        ("most-accurate-of-equals", 0.05, 3),
        # Six of ten images are lost: p = 1/32.
        ("most-accurate-of-equals", 0.0001, 4),
    ],
)
def test_of_checkpoints_that_are_equally_robust_by_a_paired_test_the_most_accurate_is_kept(
    keep: Literal["most-robust", "most-accurate-of-equals"],
    level: float,
    kept: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = Story([50] * 5, adversarial=[60, 80, 70, 20, 10], standard=[50, 60, 70, 80, 70])
    assert story.run(monkeypatch, "pgd", {"keep": keep, "keep_level": level}).kept == kept


def test_weights_are_perturbed_after_the_epochs_of_warm_up(
    monkeypatch: pytest.MonkeyPatch, resnet8: nn.Module, digits: Images
) -> None:
    """The second of two epochs computes the loss twice per batch."""
    monkeypatch.setattr(
        measuring, "withstands_pgd", lambda *_, **__: torch.ones(BATCH, dtype=torch.bool)
    )
    monkeypatch.setattr(measuring, "WATCHED", BATCH)
    spy = Spy(REGIMES["awp"])
    counts: list[int] = []
    data = digits.up_to(BATCH * BATCHES)
    settings = settings_of().model_copy(
        update={
            "train": Train(epochs=2, batch_size=BATCH),
            "awp": Awp(warmup=1),
            "augment": Augment(crop=0),
        }
    )
    train(
        resnet8,
        data,
        data.up_to(BATCH),
        regime=spy.spied,
        settings=settings,
        seed=0,
        after_epoch=lambda _: counts.append(len(spy.calls)),
    )
    assert counts == [BATCHES, BATCHES + 2 * BATCHES]
