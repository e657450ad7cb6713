"""Transfer of a network to another data set: its new last layer, its phases, and a kill."""

import copy
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from rift import models
from rift.artifacts import provenance, read_facts
from rift.artifacts.resume import Work
from rift.config import Attack, Augment, MethodName, Transfer, TransferSettings, Twins
from rift.data.images import Images
from rift.errors import RiftError
from rift.models import checkpoint
from rift.models.checkpoint import ModelSpec
from rift.training.history import Trained, TrainingEpoch, TransferEpoch
from rift.training.methods import METHODS
from rift.training.trainer import Job, Trainer
from rift.transferring import MAIN, network_for_target, transfer
from tests.interrupted import KeepEverything, loaded

SPEC = ModelSpec("resnet8", 10, 8, (0.3,), (0.4,))
SETTINGS = TransferSettings(
    transfer=Transfer(
        epochs=1, batch_size=32, learning_rate=0.05, init_head="linear-probe", probe_epochs=1
    ),
    attack=Attack(eps=0.1, step=0.05, steps=2),
    augment=Augment(crop=1, flip=False),
    twins=Twins(frozen_weight=0.5),
)


def source(classes: int = 10) -> nn.Module:
    return models.build("resnet8", classes=classes, size=8, mean=(0.3,), std=(0.4,), seed=7)


def target(seed: int = 0) -> tuple[nn.Module, ModelSpec, str]:
    return network_for_target(source(), SPEC, classes=10, channels=1, size=8, seed=seed)


def run(
    digits: Images,
    settings: TransferSettings = SETTINGS,
    method: MethodName = "twins-at",
    work: KeepEverything | None = None,
) -> tuple[nn.Module, Trained]:
    model, _, head = target()
    parts = digits.up_to(64), digits.take(slice(100, 132))
    return model, transfer(
        model, *parts, head=head, method=method, settings=settings, seed=0, work=work
    )


def test_everything_but_the_last_layer_comes_from_the_source() -> None:
    """Also for another size and number of classes. The source's normalisation stays."""
    before = source().state_dict()
    model, spec, head = network_for_target(source(), SPEC, classes=4, channels=1, size=16, seed=0)
    assert head == "linear"
    assert spec == ModelSpec("resnet8", 4, 16, (0.3,), (0.4,))
    for name, value in model.state_dict().items():
        if name.startswith("linear"):
            assert len(value) == 4
        else:
            assert torch.equal(value, before[name])
    assert model(torch.rand(2, 1, 16, 16)).shape == (2, 4)
    same, other = target(0)[0].get_submodule("linear"), target(1)[0].get_submodule("linear")
    # The classes of the target are others, even if there are as many.
    assert not torch.equal(same.state_dict()["weight"], before["linear.weight"])
    assert not torch.equal(same.state_dict()["weight"], other.state_dict()["weight"])


def test_a_target_of_other_images_is_refused() -> None:
    with pytest.raises(RiftError, match="for images of 1 channels, but the target has 3"):
        network_for_target(source(), SPEC, classes=10, channels=3, size=8, seed=0)
    spec = replace(SPEC, architecture="timm:vit_tiny_patch16_224", size=16)
    vit = models.build(**asdict(spec))
    with pytest.raises(RiftError, match="is for images of 16 pixels, and does not take 32: pos"):
        network_for_target(vit, spec, classes=10, channels=1, size=32, seed=0)


def test_the_linear_probe_trains_the_last_layer_alone(digits: Images) -> None:
    """The phase after it has a vanishing learning rate here, so weights are those of the probe.

    Running statistics move in that phase only: from the source's, by one step of momentum each.
    """
    still = SETTINGS.transfer.model_copy(update={"learning_rate": 1e-30, "batch_size": 64})
    settings = SETTINGS.model_copy(
        update={"transfer": still, "augment": Augment(crop=0, flip=False)}
    )
    start = target()[0].state_dict()
    model, trained = run(digits, settings, "at")
    for name, value in model.named_parameters():
        moved = float((value.detach() - start[name]).abs().max()) > 1e-20
        assert moved == name.startswith("linear"), name
    assert int(model.state_dict()["bn1.num_batches_tracked"]) == 1
    assert len(trained.history) == 1

    none = settings.model_copy(
        update={"transfer": still.model_copy(update={"init_head": "random"})}
    )
    unprobed, _ = run(digits, none, "at")
    assert torch.equal(
        unprobed.get_submodule("linear").state_dict()["weight"], start["linear.weight"]
    )


def test_a_transfer_of_some_images_is_that_of_the_first_images(digits: Images) -> None:
    def trained(data: Images, images: int | str) -> Trained:
        few = SETTINGS.transfer.model_copy(update={"images": images, "init_head": "random"})
        settings = SETTINGS.model_copy(update={"transfer": few})
        (model, _, head), validation = target(), digits.take(slice(100, 132))
        how: dict[str, Any] = {"head": head, "method": "at", "settings": settings, "seed": 0}
        return transfer(model, data, validation, **how)

    one, other = trained(digits.up_to(90), 40), trained(digits.up_to(40), "all")
    assert all(torch.equal(other.state[name], value) for name, value in one.state.items())
    with pytest.raises(RiftError, match=r"transfer\.images: is 41, but the split has 40 images"):
        trained(digits.up_to(40), 41)


@pytest.mark.parametrize("method", ["twins-at", "twins-trades"])
def test_a_transfer_gives_a_plain_network_and_goes_on_in_each_phase(
    digits: Images, method: MethodName
) -> None:
    work = KeepEverything()
    model, whole = run(digits, method=method, work=work)
    assert list(model.state_dict()) == list(whole.state) == list(source().state_dict())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in whole.state.items())
    phases = [loaded(content) for content in work.saved]
    assert [list(phase) for phase in phases] == [["linear probe"]] * 3 + [["transfer"]] * 3
    for number in (0, 2, 3):
        torch.manual_seed(5)
        rest = KeepEverything(copy.deepcopy(phases[number]))
        _, again = run(digits, method=method, work=rest)
        # A finished phase is not repeated.
        assert len(rest.saved) == len(phases) - 1 - number
        assert all(torch.equal(again.state[name], value) for name, value in whole.state.items())
        rows = [
            replace(trained.history[0], seconds=0, images_per_second=0)
            for trained in (whole, again)
            if isinstance(trained.history[0], TrainingEpoch)
        ]
        assert rows[0] == rows[1]
        assert isinstance(rows[1], TransferEpoch)
        assert rows[1].gradient_norm is not None


def without_probe(epochs: int = 1) -> TransferSettings:
    chosen = SETTINGS.transfer.model_copy(update={"init_head": "random", "epochs": epochs})
    return SETTINGS.model_copy(update={"transfer": chosen})


@pytest.mark.parametrize("method", ["at", "twins-at"])
def test_the_history_contains_norms_of_the_weights_before_batch_norm(
    digits: Images, method: MethodName
) -> None:
    """Recalculated from the gradients that the optimiser gets, in float64 and by name."""
    steps: list[float] = []
    model, _, head = target()
    convolutions = {
        name: weight
        for name, weight in model.named_parameters()
        if "conv" in name or "shortcut.0" in name
    }
    assert len(convolutions) == 9

    def norm(values: list[torch.Tensor]) -> float:
        return float(torch.cat([value.detach().double().flatten() for value in values]).norm())

    def before_step(*_: object) -> None:
        steps.append(norm([w.grad for w in convolutions.values() if w.grad is not None]))

    handle = register_optimizer_step_pre_hook(before_step)
    try:
        parts = digits.up_to(96), digits.take(slice(100, 132))
        settings = without_probe(2)
        trained = transfer(model, *parts, head=head, method=method, settings=settings, seed=0)
    finally:
        handle.remove()
    assert len(steps) == 2 * 3
    for number, row in enumerate(trained.history):
        assert isinstance(row, TransferEpoch)
        assert row.gradient_norm == pytest.approx(sum(steps[3 * number :][:3]) / 3, rel=1e-5)
    last = trained.history[-1]
    assert isinstance(last, TransferEpoch)
    expected = norm(list(convolutions.values()))
    assert last.weight_norm == pytest.approx(expected, rel=1e-6)
    assert last.effective_learning_rate == pytest.approx(last.learning_rate / expected**2, rel=1e-5)


def test_the_measurement_of_norms_changes_no_number_and_no_other_history(digits: Images) -> None:
    """A training of the same job has the same rows, without the norms."""
    settings = without_probe()
    parts = digits.up_to(64), digits.take(slice(100, 132))
    _, measured = run(digits, settings, "at")
    job = Job(METHODS["at"], settings.as_training(), MAIN)
    plain = Trainer(target()[0], *parts, job, seed=0).run(Work(), lambda trained: None)
    assert all(torch.equal(plain.state[name], value) for name, value in measured.state.items())
    (row,), (other,) = plain.history, measured.history
    assert type(row) is TrainingEpoch
    times = {"seconds", "images_per_second"}
    for field in fields(row):
        assert field.name in times or getattr(row, field.name) == getattr(other, field.name)
    added = {field.name for field in fields(other)} - {field.name for field in fields(row)}
    assert added == {"weight_norm", "gradient_norm", "effective_learning_rate"}
    assert "norm" not in " ".join(vars(row))


def test_a_network_without_batch_norm_has_no_norms_in_its_history(digits: Images) -> None:
    spec = replace(SPEC, architecture="resnet18-w16-gn")
    model = models.build(**asdict(spec), seed=1)
    parts = digits.up_to(32), digits.take(slice(100, 116))
    settings = without_probe()
    trained = transfer(model, *parts, head="linear", method="at", settings=settings, seed=0)
    (row,) = trained.history
    assert isinstance(row, TransferEpoch)
    assert (row.weight_norm, row.gradient_norm, row.effective_learning_rate) == (None, None, None)


def test_a_network_that_enlarges_sees_what_it_saw_at_the_source() -> None:
    """Its logits are those of the plain network for images that were enlarged before."""
    spec = replace(SPEC, size=32)
    before = models.build(**asdict(spec), seed=7).eval()
    model, target, _ = network_for_target(
        copy.deepcopy(before), spec, classes=10, channels=1, size=8, enlarge=32, seed=0
    )
    assert (target.size, target.enlarge) == (8, 32)
    plain, _, _ = network_for_target(before, spec, classes=10, channels=1, size=32, seed=0)
    images = torch.rand(4, 1, 8, 8)
    large = images.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    torch.testing.assert_close(model.eval()(images), plain.eval()(large))
    # Another transfer of the result goes on with it.
    again = network_for_target(model, target, classes=3, channels=1, size=8, seed=0)
    assert again[1].enlarge == 32
    with pytest.raises(RiftError, match=r"transfer\.enlarge: is 8, but the images have 8 pixels"):
        network_for_target(before, spec, classes=10, channels=1, size=8, enlarge=8, seed=0)


def test_the_enlargement_is_part_of_a_checkpoint_and_of_nothing_else(tmp_path: Path) -> None:
    for enlarge in (None, 16):
        spec = replace(SPEC, enlarge=enlarge)
        model = models.build(**asdict(spec), seed=7).eval()
        path = tmp_path / f"{enlarge}.safetensors"
        checkpoint.save(path, model.state_dict(), spec, provenance("train", {}))
        loaded, found = checkpoint.load(path)
        assert found == spec
        images = torch.rand(2, 1, 8, 8)
        assert torch.equal(loaded(images), model(images))
        # Files without it are those of earlier versions.
        assert ("enlarge" in read_facts(path)["model"]) == (enlarge is not None)


def test_a_last_layer_with_weight_norm_is_refused_by_name() -> None:
    model = source()
    torch.nn.utils.parametrizations.weight_norm(model.get_submodule("linear"))
    with pytest.raises(RiftError, match=r"the weight of its last layer linear is computed from"):
        network_for_target(model, SPEC, classes=4, channels=1, size=8, seed=0)
