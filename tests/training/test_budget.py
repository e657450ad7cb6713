from typing import Any

import pytest
import torch
from torch import nn

from rift.config import Attack, Awp, Inner, RegimeName, Train, TrainingSettings
from rift.data.images import Images
from rift.models.state import snapshot
from rift.training.budget import passes_per_image
from rift.training.regimes import REGIMES


@pytest.mark.parametrize(
    ("regime", "changes", "passes"),
    [
        ("standard", {}, 1),
        ("pgd", {}, 4 + 1),
        ("pgd", {"inner": Inner(steps=7)}, 7 + 1),
        ("pgd", {"inner": Inner(method="n-fgsm")}, 1 + 1),
        # TRADES predicts clean images before the attack, and has both kinds of images in its loss.
        ("trades", {}, 1 + 4 + 2),
        # Adversarial weights need the loss once more.
        ("awp", {"awp": Awp(warmup=0)}, 4 + 1 + 1),
        ("pgd", {"train": Train(statistics="clean", accumulate=4)}, 4 + 1 + 1),
    ],
)
def test_passes_are_those_of_attack_and_loss(
    regime: RegimeName, changes: dict[str, Any], passes: int, resnet8: nn.Module, digits: Images
) -> None:
    settings = TrainingSettings(**{"attack": Attack(steps=4), **changes})
    before, mode = snapshot(resnet8), torch.get_rng_state()
    assert passes_per_image(resnet8, digits, REGIMES[regime], settings) == passes
    after = snapshot(resnet8)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), mode)
