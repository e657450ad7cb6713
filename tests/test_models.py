import re
from pathlib import Path

import pytest
import torch
from pyautoattack.examples.resnet import ResNet18
from torch import nn

from rift import models
from rift.artifacts import provenance
from rift.errors import RiftError
from rift.models import checkpoint


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_resnet18_is_the_field_s_resnet18() -> None:
    """Same names, same shapes and, for equal weights, the same logits as another implementation of the CIFAR network."""
    model = models.build("resnet18", classes=10, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), seed=0).eval()
    reference = ResNet18().eval()
    assert count(model) == 11_173_962
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("normalize.")}
    reference.load_state_dict(state, strict=True)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), rtol=1e-4, atol=1e-5)


def test_resnet8_has_three_stages_of_one_block() -> None:
    model = models.build("resnet8", classes=10, mean=(0.5,), std=(0.2,))
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert convolutions == [
        "conv1",
        "layer1.0.conv1",
        "layer1.0.conv2",
        "layer2.0.conv1",
        "layer2.0.conv2",
        "layer2.0.shortcut.0",
        "layer3.0.conv1",
        "layer3.0.conv2",
        "layer3.0.shortcut.0",
        "linear",
    ]
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_normalisation_is_inside_the_model() -> None:
    model = models.build("resnet8", classes=10, mean=(0.3, 0.5), std=(0.2, 0.1), seed=1).eval()
    plain = models.build("resnet8", classes=10, mean=(0.0, 0.0), std=(1.0, 1.0), seed=1).eval()
    images = torch.rand(3, 2, 8, 8)
    normalised = (images - torch.tensor([0.3, 0.5])[:, None, None]) / torch.tensor([0.2, 0.1])[:, None, None]
    torch.testing.assert_close(model(images), plain(normalised))


def test_the_seed_decides_the_weights_and_nothing_else_is_touched() -> None:
    state = torch.random.get_rng_state()
    first, second, other = (
        models.build("resnet8", classes=10, mean=(0.5,), std=(0.2,), seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first.get_parameter("conv1.weight"), second.get_parameter("conv1.weight"))
    assert not torch.equal(first.get_parameter("conv1.weight"), other.get_parameter("conv1.weight"))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_checkpoint_gives_back_the_model(tmp_path: Path, prepared_model: nn.Module) -> None:
    spec = checkpoint.ModelSpec("resnet8", 10, (0.25,), (0.5,), 8)
    checkpoint.save(tmp_path / "m.safetensors", prepared_model.state_dict(), spec, provenance({}))
    model, found = checkpoint.load(tmp_path / "m.safetensors")
    assert found == spec
    assert not model.training
    images = torch.rand(5, 1, 8, 8)
    assert torch.equal(model(images), prepared_model(images))


def test_weights_of_another_architecture_are_refused(tmp_path: Path, prepared_model: nn.Module) -> None:
    path = tmp_path / "m.safetensors"
    spec = checkpoint.ModelSpec("resnet18", 10, (0.25,), (0.5,), 8)
    checkpoint.save(path, prepared_model.state_dict(), spec, provenance({}))
    with pytest.raises(RiftError, match=rf"^{re.escape(str(path))}: weights are not those of resnet18: .* is missing"):
        checkpoint.load(path)
