import copy
import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rift.artifacts.resume import Work
from rift.config import Augment, Finetune
from rift.criticality import WHOLE_NETWORK, ModuleCriticality, modules_of
from rift.data.images import Images
from rift.errors import RiftError
from rift.finetuning import STEEPNESS_IMAGES, clean_gradient, fine_tune
from rift.models.state import snapshot
from rift.training.history import Trained
from tests.recording import Recording

TABLE = [
    ModuleCriticality(
        name, kind, 10 ** (rank % 3), mrc, 0.01, 1.0, 0.0, rank, rank == 1, 100, True, 0.0
    )
    for name, kind, mrc, rank in (
        ("conv1", "conv", 0.3, 3),
        ("layer1.0.conv1", "conv", 0.1, 1),
        ("layer2.0.conv2", "conv", 0.9, 5),
        ("layer3.0.shortcut.0", "conv", 0.2, 2),
        ("linear", "linear", 0.5, 4),
    )
]


@pytest.mark.parametrize(
    ("scope", "modules"),
    [
        ("rift", ["layer1.0.conv1"]),
        ("robust-critical", ["layer2.0.conv2"]),
        ("all-layers", [""]),
        ("last-layer", ["linear"]),
        ("top2", ["layer1.0.conv1", "layer3.0.shortcut.0"]),
        ("top3", ["layer1.0.conv1", "layer3.0.shortcut.0", "conv1"]),
        ("top5", ["layer1.0.conv1", "layer3.0.shortcut.0", "conv1", "linear", "layer2.0.conv2"]),
        ("module-conv1", ["conv1"]),
    ],
)
def test_a_scope_names_its_modules(scope: str, modules: list[str]) -> None:
    assert modules_of(scope, TABLE) == modules


@pytest.mark.parametrize(
    ("restriction", "modules"),
    [
        ({"least_share": 0.1}, ["layer3.0.shortcut.0", "layer2.0.conv2"]),
        ({"part": (0.25, 0.75)}, ["layer1.0.conv1", "layer3.0.shortcut.0"]),
        ({"part": (0.5, 1)}, ["layer3.0.shortcut.0", "linear"]),
    ],
)
def test_the_least_critical_modules_are_chosen_from_what_settings_allow(
    restriction: dict[str, Any], modules: list[str]
) -> None:
    asked = Finetune(**restriction)
    assert modules_of("top2", TABLE, asked) == modules
    assert modules_of("rift", TABLE, asked) == modules[:1]
    assert modules_of("robust-critical", TABLE, asked) == ["layer2.0.conv2"]
    with pytest.raises(
        RiftError, match=r"the scope needs 5 modules, .*; lower finetune\.least_share"
    ):
        modules_of("top5", TABLE, asked)


def test_unknown_scopes_and_modules_are_refused_with_what_there_is() -> None:
    with pytest.raises(RiftError, match="'top9' is not available; available: rift, "):
        modules_of("top9", TABLE)
    with pytest.raises(RiftError, match=r"no such module; choose one of conv1, layer1\.0\.conv1"):
        modules_of("module-conv9", TABLE)


@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
@pytest.mark.parametrize("scope", ["rift", "all-layers"])
def test_only_the_scope_changes(
    scope: str, batch_norm: str, prepared_model: nn.Module, digits: Images
) -> None:
    before = snapshot(prepared_model)
    model = prepared_model
    few = digits.up_to(128)
    tuned = fine_tune(
        model,
        few,
        few,
        modules_of(scope, TABLE),
        settings=Finetune(epochs=1, learning_rate=0.01, batch_norm=batch_norm),
        augmentation=Augment(crop=1, flip=False),
        seed=0,
    )
    changed = {name for name, value in tuned.state.items() if not torch.equal(value, before[name])}
    parameters = {name for name, _ in model.named_parameters()}
    statistics = {name for name in before if "running_" in name}
    assert changed & parameters == ({"layer1.0.conv1.weight"} if scope == "rift" else parameters)
    assert changed & statistics == (statistics if batch_norm == "train" else set())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_projections_of_an_attention_are_fine_tuned_apart(digits: Images) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            rows = images[:, 0]
            logits: torch.Tensor = self.head(self.attention(rows, rows, rows)[0].mean(1))
            return logits

    few = digits.first(40, "images")
    for modules, changed in (
        (["attention"], {"attention.in_proj_weight", "attention.in_proj_bias"}),
        (["attention.out_proj"], {"attention.out_proj.weight", "attention.out_proj.bias"}),
    ):
        model = Network()
        before = snapshot(model)
        state = fine_tune(
            model,
            few,
            few,
            modules,
            settings=Finetune(epochs=1),
            augmentation=Augment(crop=0, flip=False),
            seed=0,
        ).state
        assert {
            name for name, value in state.items() if not torch.equal(value, before[name])
        } == changed


def test_of_equal_epochs_the_earlier_is_kept(prepared_model: nn.Module, digits: Images) -> None:
    few = digits.up_to(64)
    still = Finetune(epochs=3, learning_rate=1e-12, batch_norm="frozen")
    tuned = fine_tune(
        prepared_model,
        few,
        few,
        ["linear"],
        settings=still,
        augmentation=Augment(crop=1),
        seed=0,
    )
    assert tuned.kept == 1


def test_the_best_epoch_is_kept_and_runs_repeat(prepared_model: nn.Module, digits: Images) -> None:
    train, validation = digits.up_to(300), digits.take(slice(300, 500))

    def run() -> tuple[dict[str, torch.Tensor], list[float], int]:
        tuned = fine_tune(
            prepared_model,
            train,
            validation,
            [WHOLE_NETWORK],
            settings=Finetune(epochs=4, learning_rate=0.05),
            augmentation=Augment(crop=1),
            seed=7,
        )
        return tuned.state, [row.standard_accuracy for row in tuned.history], tuned.kept

    state, accuracies, kept = run()
    again, _, _ = run()
    assert accuracies.index(max(accuracies)) + 1 == kept
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_dropout_obeys_the_seed_and_leaves_the_global_numbers_alone(
    prepared_model: nn.Module, digits: Images
) -> None:
    few = digits.up_to(96)
    model = nn.Sequential(prepared_model, nn.Dropout(0.5), nn.Linear(10, 10))

    def run(seed: int) -> torch.Tensor:
        settings = Finetune(epochs=1, batch_size=32, learning_rate=0.05)
        nothing = Augment(crop=0, flip=False)
        tuned = fine_tune(
            model, few, few, ["2"], settings=settings, augmentation=nothing, seed=seed
        )
        return tuned.state["2.weight"]

    first = run(0)
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    assert torch.equal(run(0), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(run(1), first)


def test_the_learning_rate_falls_halfway(prepared_model: nn.Module, digits: Images) -> None:
    few = digits.up_to(64)
    tuned = fine_tune(
        prepared_model,
        few,
        few,
        ["linear"],
        settings=Finetune(epochs=4),
        augmentation=Augment(crop=1),
        seed=0,
    )
    assert [row.learning_rate for row in tuned.history] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_fine_tuning_leaves_the_model_as_it_was(prepared_model: nn.Module, digits: Images) -> None:
    few, before = digits.up_to(64), snapshot(prepared_model)
    prepared_model.get_submodule("layer2").train()
    modes = [module.training for module in prepared_model.modules()]
    try:
        tuned = fine_tune(
            prepared_model,
            few,
            few,
            [WHOLE_NETWORK],
            settings=Finetune(epochs=1, learning_rate=0.05),
            augmentation=Augment(crop=1),
            seed=0,
        )
        assert [module.training for module in prepared_model.modules()] == modes
    finally:
        prepared_model.eval()
    after = prepared_model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(
        parameter.requires_grad and parameter.grad is None
        for parameter in prepared_model.parameters()
    )
    assert not torch.equal(tuned.state["linear.weight"], before["linear.weight"])


def test_every_state_that_is_saved_leads_to_the_same_end(
    prepared_model: nn.Module, digits: Images
) -> None:
    train, validation = digits.up_to(96), digits.take(slice(96, 160))

    def run(work: Work) -> Trained:
        return fine_tune(
            prepared_model,
            train,
            validation,
            ["layer1.0.conv1", "linear"],
            settings=Finetune(epochs=2, batch_size=32, learning_rate=0.05),
            augmentation=Augment(crop=1),
            seed=3,
            work=work,
        )

    recording = Recording()
    whole = run(recording)
    assert len(recording.saved) >= 2 * 3
    for saved in recording.saved:
        work = Work()
        work.state = torch.load(io.BytesIO(saved), weights_only=True)
        again = run(work)
        assert again.kept == whole.kept
        assert all(torch.equal(again.state[name], value) for name, value in whole.state.items())
        assert [row.standard_accuracy for row in again.history] == [
            row.standard_accuracy for row in whole.history
        ]


def test_the_clean_gradient_is_that_of_the_mean_loss_on_the_first_images(
    prepared_model: nn.Module, digits: Images
) -> None:
    before = {name: theta.clone() for name, theta in prepared_model.state_dict().items()}
    found = clean_gradient(prepared_model, ["conv1", "linear"], digits)
    few = digits.up_to(STEEPNESS_IMAGES)
    slow = copy.deepcopy(prepared_model).eval()
    F.cross_entropy(slow(few.floats()), few.labels).backward()
    weights = [
        weight for name in ("conv1", "linear") for weight in slow.get_submodule(name).parameters()
    ]
    grads = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
    assert found == pytest.approx(grads.norm().item(), rel=1e-4)
    after = prepared_model.state_dict()
    assert all(torch.equal(after[name], theta) for name, theta in before.items())
    assert all(weight.grad is None for weight in prepared_model.parameters())
