"""TWINS: its losses recalculated on plain networks, its two wings in training, and a kill."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift import models
from rift.artifacts.resume import Work
from rift.config import Attack, Augment, MethodName, Train, TrainingSettings, Twins
from rift.data.images import Images
from rift.models.two_wings import split_wings
from rift.training.history import Trained, TrainingEpoch
from rift.training.methods import METHODS
from rift.training.trainer import Job, Trainer, train
from tests.interrupted import KeepEverything, loaded

SETTINGS = TrainingSettings(
    train=Train(epochs=2, batch_size=33, learning_rate=0.05, averaging=0.9),
    attack=Attack(eps=0.1, step=0.05, steps=2),
    augment=Augment(crop=1, flip=False),
)
ADAPTIVE_ALONE = SETTINGS.model_copy(update={"twins": Twins(frozen_weight=0, frozen_share=0)})


@pytest.fixture
def network(prepared_model: nn.Module) -> nn.Module:
    """Return a trained network, as the source of a transfer."""
    return copy.deepcopy(prepared_model)


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """Return KL(f(x) ‖ f(x')) of every image.

    The logarithm is taken of the logits: float32 rounds small probabilities to 0.
    """
    return (clean.softmax(1) * (clean.log_softmax(1) - attacked.log_softmax(1))).sum(1)


def wing(
    method: MethodName, plain: nn.Module, images: Tensor, other: Tensor, labels: Tensor, beta: float
) -> Tensor:
    """Return the loss of one wing, computed on a plain network."""
    if method == "twins-at":
        return F.cross_entropy(plain(other), labels)
    clean = plain(images)
    return F.cross_entropy(clean, labels) + beta * divergence(clean, plain(other)).mean()


@pytest.mark.parametrize(
    ("method", "kl"),
    [("twins-at", "formula"), ("twins-trades", "formula"), ("twins-trades", "published")],
)
def test_loss_and_gradients_are_the_sum_over_both_wings(
    method: MethodName, kl: str, network: nn.Module, digits: Images
) -> None:
    """Seven images: three go through the frozen wing, and the odd one through the adaptive wing.

    The frozen wing is a plain network in eval mode, and the adaptive wing one in training mode.
    """
    batch = digits.up_to(7)
    images, labels = batch.floats(), batch.labels
    attacked = (images + 0.1 * torch.rand(images.shape)).clamp(0, 1)
    weight = 0.7
    settings = SETTINGS.model_copy(
        update={"twins": Twins.model_validate({"frozen_weight": weight, "kl": kl})}
    )
    frozen, adaptive = copy.deepcopy(network).eval(), copy.deepcopy(network).train()
    split = split_wings(network).train()
    loss, logits = METHODS[method].loss(split, images, attacked, labels, settings)
    loss.backward()

    betas = (6 * 3 / 7, 6 * 4 / 7) if kl == "published" else (6.0, 6.0)
    expected = [
        weight * wing(method, frozen, images[:3], attacked[:3], labels[:3], betas[0]),
        wing(method, adaptive, images[3:], attacked[3:], labels[3:], betas[1]),
    ]
    for part in expected:
        part.backward()
    torch.testing.assert_close(loss, expected[0] + expected[1])
    with torch.no_grad():
        torch.testing.assert_close(logits[:3], frozen(attacked[:3]))

    found = {name: value.grad for name, value in split.named_parameters()}
    theirs = dict(frozen.named_parameters())
    for name, value in adaptive.named_parameters():
        parent, _, own = name.rpartition(".")
        if f"{parent}.adaptive.{own}" in found:
            torch.testing.assert_close(found[f"{parent}.adaptive.{own}"], value.grad)
            torch.testing.assert_close(found[f"{parent}.frozen.{own}"], theirs[name].grad)
        else:
            one, other = value.grad, theirs[name].grad
            assert one is not None
            assert other is not None
            torch.testing.assert_close(found[name], one + other)
    assert sum(".frozen." in name for name in found) == 2 * 9


def test_training_moves_all_of_the_frozen_wing_but_its_statistics(
    network: nn.Module, digits: Images
) -> None:
    source = {name: value.clone() for name, value in network.state_dict().items()}
    data, validation = digits.up_to(99), digits.take(slice(100, 164))
    trained = train(
        network, data, validation, regime=METHODS["twins-at"], settings=SETTINGS, seed=0
    )
    moved = {name: value for name, value in network.state_dict().items() if ".frozen." in name}
    for name, value in moved.items():
        fixed = "running" in name or "num_batches" in name
        assert torch.equal(value, source[name.replace(".frozen", "")]) == fixed, name
    assert list(trained.state) == list(source)
    assert not torch.equal(trained.state["bn1.running_mean"], source["bn1.running_mean"])


def run(method: MethodName, settings: TrainingSettings, data: Images, work: Work) -> Trained:
    model = models.build("resnet8", classes=10, size=8, mean=(0.3,), std=(0.4,), seed=3)
    parts = data.up_to(66), data.take(slice(100, 132))
    return train(model, *parts, regime=METHODS[method], settings=settings, seed=0, work=work)


def same(one: Trained, other: Trained) -> None:
    """Check that two trainings gave the same bytes, apart from the time they took."""
    assert list(one.state) == list(other.state)
    assert all(torch.equal(other.state[name], value) for name, value in one.state.items())
    histories = [
        [
            replace(row, seconds=0, images_per_second=0)
            for row in trained.history
            if isinstance(row, TrainingEpoch)
        ]
        for trained in (one, other)
    ]
    assert histories[0] == histories[1] != []


@pytest.mark.parametrize(("twins", "plain"), [("twins-at", "at"), ("twins-trades", "trades")])
def test_without_the_frozen_wing_twins_is_its_baseline_also_through_a_kill(
    twins: MethodName, plain: MethodName, digits: Images
) -> None:
    """Resumed from a state in the middle of an epoch, with another global random state."""
    expected = run(plain, SETTINGS, digits, Work())
    work = KeepEverything()
    same(expected, run(twins, ADAPTIVE_ALONE, digits, work))
    torch.manual_seed(1)
    middle = loaded(work.saved[0])
    assert middle["epoch"]["steps"] == 1
    same(expected, run(twins, ADAPTIVE_ALONE, digits, KeepEverything(middle)))
    assert not torch.equal(
        run(twins, SETTINGS, digits, Work()).state["conv1.weight"], expected.state["conv1.weight"]
    )


def test_twins_with_both_wings_goes_on_after_a_kill(digits: Images) -> None:
    work = KeepEverything()
    whole = run("twins-at", SETTINGS, digits, work)
    middle = loaded(work.saved[0])
    same(whole, run("twins-at", SETTINGS, digits, KeepEverything(middle)))


def test_the_head_moves_at_its_own_rate(network: nn.Module, digits: Images) -> None:
    """One step without momentum and decay: the change is the rate times the gradient."""
    settings = SETTINGS.model_copy(
        update={
            "train": Train(epochs=1, batch_size=64, learning_rate=0.01, momentum=0, weight_decay=0)
        }
    )
    head = list(network.get_submodule("linear").parameters())
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    job = Job(METHODS["at"], settings, head=head, head_rate=10)
    trainer = Trainer(network, digits.up_to(64), digits.take(slice(64, 96)), job, seed=0)
    trained = trainer.run(Work(), lambda trained: None)
    assert trained.history[0].learning_rate == pytest.approx(0.01)
    for name, value in network.named_parameters():
        assert value.grad is not None
        rate = 0.1 if name.startswith("linear") else 0.01
        torch.testing.assert_close(value.detach(), before[name] - rate * value.grad)
