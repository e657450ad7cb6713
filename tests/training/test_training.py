import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.config import Attack, Augment, Train, TrainingSettings
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.state import snapshot
from rift.training.history import Trained, TrainingEpoch
from rift.training.parallel import ALONE
from rift.training.regimes import REGIMES, Regime
from rift.training.step import BatchGradient
from rift.training.trainer import train

ATTACK = Attack(eps=0.1, step=0.05, steps=2)
PLAIN = Augment(crop=0, flip=False)


def run(
    model: nn.Module,
    data: Images,
    regime: Regime = REGIMES["pgd"],
    seed: int = 0,
    **settings: object,
) -> Trained:
    given = Train(
        **{"epochs": 3, "batch_size": 32, "learning_rate": 0.05, "milestones": (2,), **settings}
    )
    return train(
        model,
        data.take(slice(96)),
        data.take(slice(96, 160)),
        regime=regime,
        settings=TrainingSettings(train=given, attack=ATTACK, augment=PLAIN),
        seed=seed,
    )


def rows(trained: Trained) -> list[TrainingEpoch]:
    """Return the history, and check that all rows have a PGD accuracy."""
    found = [row for row in trained.history if isinstance(row, TrainingEpoch)]
    assert len(found) == len(trained.history)
    return found


def test_the_most_robust_epoch_is_kept_and_the_learning_rate_follows_the_milestones(
    resnet8: nn.Module, digits: Images
) -> None:
    trained = run(resnet8, digits)
    ranks = [(row.adversarial_accuracy, row.standard_accuracy) for row in rows(trained)]
    assert ranks.index(max(ranks)) + 1 == trained.kept
    assert [row.learning_rate for row in trained.history] == pytest.approx([0.05, 0.05, 0.005])


def test_the_state_kept_is_that_of_the_epoch_kept(resnet8: nn.Module, digits: Images) -> None:
    start = snapshot(resnet8)
    trained = run(resnet8, digits, epochs=4)
    resnet8.load_state_dict(start)
    run(resnet8, digits, epochs=trained.kept)
    assert all(
        torch.equal(value, trained.state[name]) for name, value in resnet8.state_dict().items()
    )


def test_of_equal_epochs_the_earlier_is_kept(digits: Images) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert run(linear, digits, epochs=3, learning_rate=1e-12).kept == 1


def test_epochs_that_are_not_evaluated_are_trained_alike_and_cannot_be_kept(
    resnet8: nn.Module, digits: Images
) -> None:
    start = snapshot(resnet8)
    every = rows(run(resnet8, digits, epochs=5))
    resnet8.load_state_dict(start)
    trained = run(resnet8, digits, epochs=5, measure_every=2)
    seldom = rows(trained)
    assert [row.epoch for row in seldom] == [2, 4, 5]
    for row in seldom:
        before = every[row.epoch - 1]
        assert (row.train_loss, row.standard_accuracy, row.adversarial_accuracy) == (
            before.train_loss,
            before.standard_accuracy,
            before.adversarial_accuracy,
        )
    ranks = [(row.adversarial_accuracy, row.standard_accuracy) for row in seldom]
    assert trained.kept == seldom[ranks.index(max(ranks))].epoch


def test_standard_training_is_kept_by_standard_accuracy(resnet8: nn.Module, digits: Images) -> None:
    trained = run(resnet8, digits, REGIMES["standard"], epochs=4)
    accuracies = [row.standard_accuracy for row in trained.history]
    assert accuracies[trained.kept - 1] == max(accuracies)


def test_one_step_is_plain_sgd_with_momentum_and_weight_decay(
    resnet8: nn.Module, digits: Images
) -> None:
    """The test calculates one epoch of one batch in standard training by hand."""
    start = snapshot(resnet8)
    data = digits.up_to(32)
    settings = Train(epochs=1, batch_size=32, learning_rate=0.1, weight_decay=0.01)
    train(
        resnet8,
        data,
        data,
        regime=REGIMES["standard"],
        settings=TrainingSettings(train=settings, augment=PLAIN),
        seed=0,
    )
    found = resnet8.get_parameter("linear.weight").detach().clone()

    resnet8.load_state_dict(start)
    resnet8.train()
    loss = F.cross_entropy(resnet8(data.floats()), data.labels)
    (gradient,) = torch.autograd.grad(loss, resnet8.get_parameter("linear.weight"))
    expected = start["linear.weight"] - 0.1 * (gradient + 0.01 * start["linear.weight"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    resnet8: nn.Module, digits: Images
) -> None:
    start = snapshot(resnet8)
    states = []
    for seed in (0, 0, 1):
        resnet8.load_state_dict(start)
        states.append(run(resnet8, digits, seed=seed, epochs=1).state)
    assert all(torch.equal(states[0][name], states[1][name]) for name in start)
    assert not torch.equal(states[0]["conv1.weight"], states[2]["conv1.weight"])


def test_images_are_attacked_in_eval_mode_and_trained_on_in_training_mode(
    resnet8: nn.Module, digits: Images
) -> None:
    seen: list[tuple[bool, Tensor]] = []
    # This hook must run before the normalisation.
    resnet8.register_forward_pre_hook(
        lambda module, inputs: seen.append((module.training, inputs[0].detach())), prepend=True
    )
    statistics = snapshot(resnet8)["bn1.running_mean"]
    images = digits.up_to(8).floats()
    resnet8.train()
    settings = TrainingSettings(attack=ATTACK)
    stream = torch.Generator().manual_seed(0)
    BatchGradient(resnet8, REGIMES["pgd"], settings, stream, ALONE)(images, digits.labels[:8], 1)
    *attacking, (training, adversarial) = seen
    assert len(attacking) == ATTACK.steps
    assert not any(mode for mode, _ in attacking)
    assert training
    assert 0 < (adversarial - images).abs().max() <= ATTACK.eps + 1e-6
    assert not torch.equal(statistics, resnet8.get_buffer("bn1.running_mean"))


def test_a_loss_that_is_no_longer_finite_stops_training(resnet8: nn.Module, digits: Images) -> None:
    def breaks(model: nn.Module, images: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        # The loss breaks in the second batch of the second epoch.
        breaks_now = int(resnet8.get_buffer("bn1.num_batches_tracked")) == 4
        logits = model(images)
        return logits.sum() * (math.nan if breaks_now else 1e-6), logits

    with pytest.raises(
        RiftError,
        match=r"became nan in epoch 2, batch 2; lower .* last saved state is of epoch 2, batch 0",
    ):
        run(resnet8, digits, Regime(breaks, None))


def test_bfloat16_trains_too(resnet8: nn.Module, digits: Images) -> None:
    trained = run(resnet8, digits, epochs=1, precision="bfloat16")
    assert all(value.dtype != torch.bfloat16 for value in trained.state.values())
