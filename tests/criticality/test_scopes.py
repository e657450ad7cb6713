"""The scopes that differ from plain fine-tuning of modules."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rift.artifacts.resume import Work
from rift.config import (
    Attack,
    Augment,
    Continuation,
    Finetune,
    Inner,
    MethodName,
    Mixed,
    RegimeName,
    RunSettings,
    Scope,
    Trades,
    Train,
    Transfer,
)
from rift.criticality import ModuleCriticality, modules_of, train_scope
from rift.data.images import Images
from rift.errors import RiftError
from rift.finetuning import Tuning, fine_tune
from rift.models.state import snapshot
from rift.training.history import Trained, TrainingEpoch
from tests.recording import Recording

TABLE = [
    ModuleCriticality(name, "conv", 10, mrc, 0.01, 1.0, 0.0, rank, False, 100, True, 0.0)
    for name, mrc, rank in (("conv1", 0.3, 2), ("layer1.0.conv1", 0.1, 1))
]
PLAIN = Augment(crop=0, flip=False)


def tuned(scope: Scope, model: nn.Module, data: Images, **finetune: object) -> dict[str, Tensor]:
    """Return the weights that a scope trains on a few images in one epoch."""
    given = Finetune(**{"epochs": 1, "learning_rate": 0.05, "batch_size": 32, **finetune})
    tuning = Tuning(data, data, RunSettings(finetune=given, augment=PLAIN))
    return train_scope(scope, model, modules_of(scope, TABLE), tuning).state


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def small(norm: nn.Module) -> nn.Module:
    """Return a network of a convolution, a normalisation layer and a linear layer."""
    convolution = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    return nn.Sequential(convolution, norm, nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))


def test_rift_frozen_is_rift_whose_running_statistics_stay(
    prepared_model: nn.Module, digits: Images
) -> None:
    few, before = digits.up_to(96), snapshot(prepared_model)
    frozen = tuned("rift-frozen", prepared_model, few, batch_norm="train")
    assert changed(before, frozen) == {"layer1.0.conv1.weight"}
    by_hand = fine_tune(
        prepared_model,
        few,
        few,
        ["layer1.0.conv1"],
        settings=Finetune(epochs=1, learning_rate=0.05, batch_size=32, batch_norm="frozen"),
        augmentation=PLAIN,
        seed=0,
    )
    assert changed(by_hand.state, frozen) == set()


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm([4, 8, 8])], ids=["b", "g", "l"]
)
def test_norms_trains_scales_shifts_and_biases_alone(norm: nn.Module, digits: Images) -> None:
    model = small(norm)
    before = snapshot(model)
    after = tuned("norms", model, digits.up_to(64), batch_norm="frozen")
    assert changed(before, after) == {"1.weight", "1.bias", "4.bias"}
    assert changed(before, snapshot(model)) == set()


def test_norms_includes_the_biases_of_an_attention() -> None:
    from rift.criticality.scopes.norms import scales_and_biases

    model = nn.TransformerEncoderLayer(8, 2, 16)
    chosen = {id(parameter) for parameter in scales_and_biases(model, [""])}
    assert {name for name, value in model.named_parameters() if id(value) not in chosen} == {
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    }


def test_norms_refuses_a_network_with_neither_norm_nor_bias(digits: Images) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    with pytest.raises(RiftError, match=r"scope 'norms': the network has no bias, .*; remove"):
        tuned("norms", model, digits.up_to(64))


def recomputed(
    scope: Scope, model: nn.Module, data: Images, batch_size: int, work: Work | None = None
) -> Trained:
    settings = RunSettings(
        finetune=Finetune(batch_size=batch_size),
        augment=PLAIN,
        attack=Attack(eps=0.2, step=0.1, steps=2),
    )
    return train_scope(scope, model, [], Tuning(data, data, settings, work=work or Work()))


def test_statistics_are_the_mean_and_variance_of_all_values(digits: Images) -> None:
    """The batches differ in size, and their means differ from each other."""
    model, few = small(nn.BatchNorm2d(4)).eval(), digits.up_to(70)
    before = snapshot(model)
    result = recomputed("statistics", model, few, 32)
    values = model.get_submodule("0")(few.floats()).detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(result.state["1.running_mean"], values.mean(1))
    torch.testing.assert_close(result.state["1.running_var"], values.var(1))
    assert changed(before, result.state) == {"1.running_mean", "1.running_var"}
    assert changed(before, snapshot(model)) == set()
    model.load_state_dict(result.state)
    right = (model(few.floats()).argmax(1) == few.labels).double().mean().item()
    (row,) = result.history
    assert row.epoch == 1
    assert row.standard_accuracy == pytest.approx(100 * right)


def test_statistics_of_one_batch_are_those_that_torch_records(
    prepared_model: nn.Module, digits: Images
) -> None:
    few, before = digits.up_to(60), snapshot(prepared_model)
    found = recomputed("statistics", prepared_model, few, 60).state
    norms = [module for module in prepared_model.modules() if isinstance(module, nn.BatchNorm2d)]
    try:
        for norm in norms:
            norm.train().momentum = 1.0  # the newest batch replaces all earlier ones
        prepared_model(few.floats())
        for name, value in prepared_model.state_dict().items():
            if "running_" in name:
                torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    finally:
        for norm in norms:
            norm.eval().momentum = 0.1
        prepared_model.load_state_dict(before)
    assert changed(before, found) == {name for name in before if "running_" in name}


def test_statistics_attacked_are_those_of_images_that_pgd_moved(digits: Images) -> None:
    model, few = small(nn.BatchNorm2d(4)).eval(), digits.up_to(70)
    norm, seen = model.get_submodule("1"), list[Tensor]()

    def record(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if norm.training:
            seen.append(given[0].detach().clone())

    hook = model.register_forward_pre_hook(record)
    result = recomputed("statistics-attacked", model, few, 32)
    hook.remove()
    images = torch.cat(seen)
    values = model.get_submodule("0")(images).detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(result.state["1.running_mean"], values.mean(1))
    torch.testing.assert_close(result.state["1.running_var"], values.var(1))
    distances = (images[:, None] - few.floats()[None]).abs().amax((2, 3, 4))
    nearest = distances.argmin(1)
    assert sorted(nearest.tolist()) == list(range(70))
    assert float(distances.amin(1).max()) == pytest.approx(0.2, abs=1e-5)
    clean, attacked = few.floats()[nearest], images
    losses = [
        nn.functional.cross_entropy(model(each), few.labels[nearest]) for each in (clean, attacked)
    ]
    assert losses[1] > losses[0]


def test_statistics_refuse_a_network_without_batch_norm(digits: Images) -> None:
    for scope in ("statistics", "statistics-attacked"):
        with pytest.raises(RiftError, match=f"scope '{scope}': the network has no batch norm"):
            recomputed(scope, small(nn.GroupNorm(2, 4)), digits.up_to(40), 32)


CONTINUING = ("more-training", "mixed-training")


@pytest.mark.parametrize("scope", ["statistics", "statistics-attacked", *CONTINUING])
def test_every_state_that_is_saved_leads_to_the_same_end(
    scope: Scope, prepared_model: nn.Module, digits: Images
) -> None:
    def run(work: Work) -> Trained:
        if scope in CONTINUING:
            few = digits.up_to(40)
            return continued(prepared_model, few, work=work, epochs=1, scope=scope)
        return recomputed(scope, prepared_model, digits.up_to(70), 32, work)

    recording = Recording()
    whole = run(recording)
    assert len(recording.saved) >= 2
    for saved in recording.saved:
        work = Work()
        work.state = torch.load(io.BytesIO(saved), weights_only=True)
        again = run(work)
        assert changed(whole.state, again.state) == set()
        assert again.history[0].train_loss == whole.history[0].train_loss


SECTION_OF: dict[Scope, str] = {
    "more-training": "continuation",
    "mixed-training": "mixed",
}


def continued(
    model: nn.Module,
    data: Images,
    regime: RegimeName = "pgd",
    work: Work | None = None,
    train: Train | None = None,
    scope: Scope = "more-training",
    **continuation: Any,
) -> Trained:
    own: dict[str, Any] = {"learning_rate": 0.01, **continuation}
    if scope != "more-training":
        own.setdefault("averaging", 0.5)
    settings = RunSettings(
        finetune=Finetune(epochs=8),
        **{SECTION_OF[scope]: own},
        train=train or Train(batch_size=20, averaging=0.5),
        augment=PLAIN,
        attack=Attack(eps=0.1, step=0.05, steps=3),
        inner=Inner(method="n-fgsm") if regime == "pgd" else Inner(),
    )
    tuning = Tuning(data, data, settings, regime=regime, work=work or Work())
    return train_scope(scope, model, [""], tuning)


def test_more_training_has_the_budget_of_fine_tuning_and_the_rule_of_the_regime(
    prepared_model: nn.Module, digits: Images
) -> None:
    before = snapshot(prepared_model)
    result = continued(prepared_model, digits.up_to(70))
    rows = [row for row in result.history if isinstance(row, TrainingEpoch)]
    # A step with N-FGSM has two passes, where one of fine-tuning has one.
    assert [row.learning_rate for row in rows] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    ranks = [
        (row.averaged_adversarial_accuracy, row.averaged_standard_accuracy)
        if result.averaged
        else (row.adversarial_accuracy, row.standard_accuracy)
        for row in rows
    ]
    every = [
        pair
        for row in rows
        for pair in (
            (row.adversarial_accuracy, row.standard_accuracy),
            (row.averaged_adversarial_accuracy or 0, row.averaged_standard_accuracy or 0),
        )
    ]
    assert ranks[result.kept - 1] == max(every)
    assert changed(before, snapshot(prepared_model)) == set()
    weights = {name for name, _ in prepared_model.named_parameters()}
    assert weights <= changed(before, result.state)


def test_a_step_of_more_training_is_sgd_on_the_loss_of_the_regime(digits: Images) -> None:
    model, few = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits.up_to(40)
    train = Train(batch_size=40, weight_decay=0.1, label_smoothing=0.2)
    result = continued(model, few, "standard", train=train, epochs=1, learning_rate=0.5)
    weight = model.get_submodule("1").get_parameter("weight")
    logits = model(few.floats())
    loss = nn.functional.cross_entropy(logits, few.labels, label_smoothing=0.2)
    (gradient,) = torch.autograd.grad(loss, weight)
    expected = weight - 0.5 * (gradient + 0.1 * weight)
    torch.testing.assert_close(result.state["1.weight"], expected.detach())


@pytest.mark.parametrize("method", ["at", "trades"])
def test_a_step_of_the_continuation_of_a_transfer_is_sgd_on_the_loss_of_its_method(
    digits: Images, method: MethodName
) -> None:
    """Of two classes, PGD on cross-entropy moves every pixel in one direction at a linear layer."""
    two = digits.take(digits.labels < 2)
    few, eps = two.up_to(30), 0.1
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    settings = RunSettings(
        continuation=Continuation(epochs=1, learning_rate=0.5),
        transfer=Transfer(images=30, batch_size=30, weight_decay=0.1, averaging=0),
        attack=Attack(eps=eps, step=2 * eps, steps=1),
        augment=PLAIN,
        trades=Trades(beta=3),
    )
    tuning = Tuning(two.up_to(50), two, settings, method=method)
    result = train_scope("more-training", model, [""], tuning)

    weight = model.get_submodule("1").get_parameter("weight")
    true, other = weight[few.labels], weight[1 - few.labels]
    moves = (other - true).sign().view(-1, 1, 8, 8)
    clean = model(few.floats())
    attacked = model((few.floats() + eps * moves).clamp(0, 1))
    if method == "at":
        loss = nn.functional.cross_entropy(attacked, few.labels)
    else:
        before, after = clean.softmax(1), attacked.log_softmax(1)
        divergence = (before * (clean.log_softmax(1) - after)).sum(1).mean()
        loss = nn.functional.cross_entropy(clean, few.labels) + 3 * divergence
    (gradient,) = torch.autograd.grad(loss, weight)
    expected = weight - 0.5 * (gradient + 0.1 * weight)
    torch.testing.assert_close(result.state["1.weight"], expected.detach())


@pytest.mark.parametrize("share", [0, 0.25, 1])
@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_a_step_of_mixed_training_is_sgd_on_the_loss_of_attacked_and_of_clean_images(
    digits: Images, share: float, smoothing: float
) -> None:
    """Of two classes, PGD on cross-entropy moves every pixel in one direction at a linear layer."""
    two = digits.take(digits.labels < 2).up_to(30)
    model, eps = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), 0.1
    settings = RunSettings(
        mixed=Mixed(epochs=1, learning_rate=0.5, schedule="step", averaging=0, clean_share=share),
        train=Train(batch_size=30, weight_decay=0.1, label_smoothing=smoothing),
        attack=Attack(eps=eps, step=2 * eps, steps=1),
        augment=PLAIN,
    )
    result = train_scope("mixed-training", model, [""], Tuning(two, two, settings))

    weight = model.get_submodule("1").get_parameter("weight")
    moves = (weight[1 - two.labels] - weight[two.labels]).sign().view(-1, 1, 8, 8)
    attacked = model((two.floats() + eps * moves).clamp(0, 1))
    losses = [
        nn.functional.cross_entropy(logits, two.labels, label_smoothing=smoothing)
        for logits in (attacked, model(two.floats()))
    ]
    (gradient,) = torch.autograd.grad((1 - share) * losses[0] + share * losses[1], weight)
    expected = weight - 0.5 * (gradient + 0.1 * weight)
    torch.testing.assert_close(result.state["1.weight"], expected.detach())


class Centred(nn.Flatten):
    """Pixels in [−0.5, 0.5], flattened."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) - 0.5


def test_mixed_training_keeps_the_epoch_that_is_most_accurate_on_clean_images() -> None:
    """The first pixel is robust and right for 80% of images, the second one is weak and right."""
    labels = torch.arange(200) % 2
    side = 2.0 * labels - 1
    images = torch.full((200, 1, 1, 2), 0.5)
    images[:, 0, 0, 0] += 0.3 * side * torch.where(torch.arange(200) % 10 < 8, 1.0, -1.0)
    images[:, 0, 0, 1] += 0.04 * side
    model = nn.Sequential(Centred(), nn.Linear(2, 2, bias=False))
    model.get_submodule("1").weight = nn.Parameter(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    result = continued(
        model,
        Images.of(images, labels),
        train=Train(batch_size=20, weight_decay=0, momentum=0),
        scope="mixed-training",
        epochs=4,
        learning_rate=200,
        averaging=0,
        clean_share=1,
    )
    rows = [row for row in result.history if isinstance(row, TrainingEpoch)]
    clean = [row.standard_accuracy for row in rows]
    robust = [row.adversarial_accuracy for row in rows]
    # Otherwise the rule of the regime would keep the same epoch.
    assert clean[robust.index(max(robust))] < max(clean)
    assert clean[result.kept - 1] == max(clean)


def test_more_training_averages_weights_if_asked_or_if_the_base_did(
    prepared_model: nn.Module, digits: Images
) -> None:
    def averages(**continuation: Any) -> bool:
        row = continued(prepared_model, digits.up_to(40), epochs=1, **continuation).history[0]
        assert isinstance(row, TrainingEpoch)
        return row.averaged_standard_accuracy is not None

    assert averages()
    assert not averages(averaging=0)
