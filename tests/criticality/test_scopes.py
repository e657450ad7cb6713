"""The scopes that differ from plain fine-tuning of modules."""

import pytest
import torch
from torch import Tensor, nn

from rift.config import Augment, Finetune, RunSettings, Scope
from rift.criticality import ModuleCriticality, modules_of, train_scope
from rift.data.images import Images
from rift.errors import RiftError
from rift.finetuning import Tuning, fine_tune
from rift.models.state import snapshot

TABLE = [
    ModuleCriticality(name, "conv", 10, mrc, 0.01, 1.0, 0.0, rank, False)
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
