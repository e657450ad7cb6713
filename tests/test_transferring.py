"""Transfer of a network to another data set: its new last layer, its phases, and a kill."""

import copy
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import nn

from rift import models
from rift.config import Attack, Augment, MethodName, Transfer, TransferSettings, Twins
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.checkpoint import ModelSpec
from rift.training.history import Trained, TrainingEpoch
from rift.transferring import network_for_target, transfer
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
