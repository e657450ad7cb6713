import copy
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from rift import models
from rift.artifacts import provenance, write_weights
from rift.config import WITHOUT_BATCH_NORM, ArchitectureName
from rift.criticality import measured_modules
from rift.criticality.choice import modules_of
from rift.errors import RiftError
from rift.models import checkpoint
from rift.models.architectures import ARCHITECTURES
from rift.thirdparty import prepare_robustbench, prepare_torchvision

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def unsettled(model: nn.Module) -> nn.Module:
    """Change biases, scales and running statistics, so that each of them affects the result."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point() and value.ndim == 1 and not name.startswith("normalize."):
            value.add_(torch.empty_like(value).normal_(std=0.1, generator=generator))
    return model.eval()


def robustbench_s(architecture: str) -> nn.Module:
    prepare_robustbench()
    from robustbench.model_zoo.architectures import resnet, wide_resnet

    reference: nn.Module = {
        "resnet18": resnet.ResNet18,
        "resnet34": resnet.ResNet34,
        "preact-resnet18": resnet.PreActResNet18,
        "wrn-28-10": partial(wide_resnet.WideResNet, depth=28, widen_factor=10),
        "wrn-34-10": partial(wide_resnet.WideResNet, depth=34, widen_factor=10),
    }[architecture]()
    return reference


def assert_equal_logits(model: nn.Module, reference: nn.Module, size: int) -> None:
    """Both models have the same names, shapes and, with equal weights, logits.

    The only difference is that our model normalises its images itself.
    """
    state = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith("normalize.")
    }
    theirs = {name: value.shape for name, value in reference.state_dict().items()}
    assert {name: value.shape for name, value in state.items()} == theirs
    reference.eval().load_state_dict(state)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(images)
        normalised = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        torch.testing.assert_close(logits, reference(normalised), rtol=1e-4, atol=1e-4)
    assert logits.std() > 0.01


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        ("resnet18", 11_173_962),
        ("resnet34", 21_282_122),
        ("preact-resnet18", 11_171_146),
        ("wrn-28-10", 36_479_194),
        ("wrn-34-10", 46_160_474),
    ],
)
def test_convolutional_networks_are_the_field_s(architecture: str, parameters: int) -> None:
    model = unsettled(models.build(architecture, classes=10, size=32, mean=MEAN, std=STD))
    assert count(model) == parameters
    assert_equal_logits(model, robustbench_s(architecture), 32)


@pytest.mark.parametrize("width", [16, 32])
def test_narrow_resnets_are_resnet18_with_fewer_channels(width: int) -> None:
    """The factor reduces all channel dimensions, but not colours, classes and kernels."""
    narrow, whole = (
        models.build(name, classes=10, size=32, mean=MEAN, std=STD).state_dict()
        for name in (f"resnet18-w{width}", "resnet18")
    )
    expected = {
        name: tuple(size * width // 64 if size >= 64 else size for size in value.shape)
        for name, value in whole.items()
    }
    assert {name: tuple(value.shape) for name, value in narrow.items()} == expected


def test_the_resnet_with_group_norm_differs_in_its_norms_alone() -> None:
    grouped, plain = (
        models.build(name, classes=10, size=32, mean=MEAN, std=STD)
        for name in ("resnet18-w16-gn", "resnet18-w16")
    )
    kinds = {name: type(module) for name, module in grouped.named_modules()}
    expected = {
        name: nn.GroupNorm if isinstance(module, nn.BatchNorm2d) else type(module)
        for name, module in plain.named_modules()
    }
    assert kinds == expected
    weights = {name: value.shape for name, value in grouped.named_parameters()}
    assert weights == {name: value.shape for name, value in plain.named_parameters()}
    values = torch.randn(2, 32, 4, 4)
    by_hand = values.reshape(2, 4, 8 * 16)  # groups of eight channels
    by_hand = by_hand - by_hand.mean(2, keepdim=True)
    by_hand = by_hand / (by_hand.square().mean(2, keepdim=True) + 1e-5).sqrt()
    found = grouped.get_submodule("layer2.0.bn1")(values)
    torch.testing.assert_close(found, by_hand.reshape(values.shape))


def test_vit_w96_has_six_blocks_of_width_96() -> None:
    width, tokens = 96, 65
    block = 12 * width**2 + (3 + 1 + 4 + 1) * width + 2 * 2 * width
    ends = 3 * 4 * 4 * width + width + width + tokens * width + 2 * width + 10 * width + 10
    model = models.build("vit-w96", classes=10, size=32, mean=MEAN, std=STD)
    assert count(model) == 6 * block + ends


@pytest.mark.parametrize(
    ("size", "classes", "parameters"), [(32, 10, 21_342_346), (64, 200, 21_470_792)]
)
def test_vit_small_is_timm_s_with_64_patches(size: int, classes: int, parameters: int) -> None:
    prepare_torchvision()
    import timm

    model = unsettled(models.build("vit-small", classes=classes, size=size, mean=MEAN, std=STD))
    assert count(model) == parameters
    reference = timm.create_model(
        "vit_small_patch16_224", img_size=size, patch_size=size // 8, num_classes=classes
    )
    assert reference.patch_embed.num_patches == 64
    assert_equal_logits(model, reference, size)


def test_resnet20_is_the_one_of_the_paper() -> None:
    """He et al. (2016), section 4.2: 0.27 million parameters, shortcuts without weights."""
    model = models.build("resnet20", classes=10, size=32, mean=MEAN, std=STD)
    assert count(model) == 269_722
    assert len(measured_modules(model)) == 20
    shortcut = model.get_submodule("layer2.0.shortcut")
    images = torch.rand(2, 16, 6, 6)
    expected = torch.zeros(2, 32, 3, 3)
    expected[:, 8:24] = images[:, :, [0, 2, 4]][..., [0, 2, 4]]
    assert torch.equal(shortcut(images), expected)


LAST_LAYERS = {
    "resnet8": "linear",
    "resnet20": "linear",
    "resnet18-w16": "linear",
    "resnet18-w16-gn": "linear",
    "resnet18-w32": "linear",
    "resnet18": "linear",
    "resnet34": "linear",
    "preact-resnet18": "linear",
    "wrn-28-10": "fc",
    "wrn-34-10": "fc",
    "vit-small": "head",
    "vit-w96": "head",
    # Timm takes the image size as an argument of this one.
    "timm:test_vit": "head",
    # This one has no such argument.
    "timm:test_efficientnet": "classifier",
}


class Row(NamedTuple):
    module: str
    kind: str
    parameters: int
    rank: int
    settled: bool = True


@pytest.mark.parametrize(
    "architecture", [*ARCHITECTURES, "timm:test_vit", "timm:test_efficientnet"]
)
def test_every_architecture_is_copied_saved_and_loaded(architecture: str, tmp_path: Path) -> None:
    spec = checkpoint.ModelSpec(architecture, 7, 32, (0.5, 0.25), (0.2, 0.4))
    model = unsettled(models.build(**asdict(spec)))
    images = torch.rand(1, 2, 32, 32)
    with torch.no_grad():
        logits = model(images)
        assert logits.shape == (1, 7)
        copied = copy.deepcopy(model)
        copied.get_buffer("normalize.mean").add_(0.3)
        assert not torch.equal(copied(images), logits)
        assert torch.equal(model(images), logits)
        checkpoint.save(
            tmp_path / "m.safetensors", model.state_dict(), spec, provenance("test", {})
        )
        loaded, found = checkpoint.load(tmp_path / "m.safetensors")
        assert torch.equal(loaded(images), logits)
    assert found == spec
    table = [
        Row(name, type(module).__name__.lower(), 1, 1)
        for name, module in measured_modules(model).items()
    ]
    assert modules_of("last-layer", table) == [LAST_LAYERS[architecture]]


def test_networks_of_timm_repeat_and_take_bfloat16() -> None:
    first, second = (
        models.build("timm:test_vit", classes=5, size=32, mean=MEAN, std=STD, seed=3)
        for _ in range(2)
    )
    assert all(
        torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items()
    )
    assert first.training
    assert not first.get_submodule("blocks.0.attn").fused_attn
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        logits = first(images)
    assert logits.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(logits.float().sum(), images)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("architecture", "size", "problem"),
    [
        ("vgg", 32, "architecture 'vgg' is not available; available: resnet8, .*, timm:NAME"),
        ("timm:vit_tinny_patch16_224", 32, "contain this network; choose vit_tiny_patch16_224"),
        (
            "timm:hf-hub:some/body",
            32,
            "architecture 'timm:hf-hub:some/body': timm .* does not contain this network",
        ),
        (
            "timm:vit_tiny_patch16_224",
            8,
            "cannot be built for 3×8×8 images and 10 classes: .*Kernel size",
        ),
        ("timm:test_byobnet.nobody", 32, "cannot be built for .*: Invalid pretrained tag"),
        ("vit-small", 30, "a multiple of 8 pixels, but it is 30"),
    ],
)
def test_what_cannot_be_built_is_said(architecture: str, size: int, problem: str) -> None:
    with pytest.raises(RiftError, match=problem):
        models.build(architecture, classes=10, size=size, mean=MEAN, std=STD)


def test_resnet8_has_three_stages_of_one_block() -> None:
    model = models.build("resnet8", classes=10, size=8, mean=(0.5,), std=(0.2,))
    convolutions = [
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
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
    model = models.build(
        "resnet8", classes=10, size=8, mean=(0.3, 0.5), std=(0.2, 0.1), seed=1
    ).eval()
    plain = models.build(
        "resnet8", classes=10, size=8, mean=(0.0, 0.0), std=(1.0, 1.0), seed=1
    ).eval()
    images = torch.rand(3, 2, 8, 8)
    normalised = (images - torch.tensor([0.3, 0.5])[:, None, None]) / torch.tensor([0.2, 0.1])[
        :, None, None
    ]
    torch.testing.assert_close(model(images), plain(normalised))


def test_the_seed_decides_the_weights_and_nothing_else_is_touched() -> None:
    state = torch.random.get_rng_state()
    first, second, other = (
        models.build("resnet8", classes=10, size=8, mean=(0.5,), std=(0.2,), seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.get_parameter("conv1.weight"), second.get_parameter("conv1.weight"))
    assert not torch.equal(first.get_parameter("conv1.weight"), other.get_parameter("conv1.weight"))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_checkpoint_gives_back_the_model(tmp_path: Path, prepared_model: nn.Module) -> None:
    spec = checkpoint.ModelSpec("resnet8", 10, 8, (0.25,), (0.5,))
    checkpoint.save(
        tmp_path / "m.safetensors", prepared_model.state_dict(), spec, provenance("test", {})
    )
    model, found = checkpoint.load(tmp_path / "m.safetensors")
    assert found == spec
    assert not model.training
    images = torch.rand(5, 1, 8, 8)
    assert torch.equal(model(images), prepared_model(images))


def test_weights_of_another_architecture_are_refused(
    tmp_path: Path, prepared_model: nn.Module
) -> None:
    path = tmp_path / "m.safetensors"
    spec = checkpoint.ModelSpec("resnet18", 10, 8, (0.25,), (0.5,))
    checkpoint.save(path, prepared_model.state_dict(), spec, provenance("test", {}))
    with pytest.raises(
        RiftError,
        match=rf"^{re.escape(str(path))}: weights are not those of resnet18: .* is missing",
    ):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": "10); print(1"},
        {"classes": -1},
        {"classes": True},
        {"size": 8.5},
        {"mean": ["x"]},
        {"mean": 0.5},
        {"mean": []},
        {"std": [0.0]},
        {"std": [float("nan")]},
        {"mean": [0.5, 0.5]},
        {"architecture": 3},
    ],
    ids=str,
)
def test_a_file_with_facts_of_another_type_is_refused(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    right = {"architecture": "resnet8", "classes": 10, "size": 8, "mean": [0.5], "std": [0.2]}
    model = models.build("resnet8", classes=10, size=8, mean=(0.5,), std=(0.2,))
    for facts in ({**right, **changed}, [1], "resnet8"):
        write_weights(
            tmp_path / "x.safetensors", model.state_dict(), provenance("t", {}), model=facts
        )
        with pytest.raises(RiftError, match=r"x\.safetensors: does not describe its model"):
            checkpoint.load(tmp_path / "x.safetensors")


def test_a_file_whose_model_cannot_be_built_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    spec = checkpoint.ModelSpec("vgg", 10, 32, (0.5,), (0.2,))
    checkpoint.save(path, {"weight": torch.zeros(1)}, spec, provenance("test", {}))
    with pytest.raises(
        RiftError, match=rf"^{re.escape(str(path))}: architecture 'vgg' is not available"
    ):
        checkpoint.load(path)
    write_weights(
        path,
        {"weight": torch.zeros(1)},
        provenance("test", {}),
        model={"architecture": "resnet8", "classes": 10},
    )
    with pytest.raises(
        RiftError,
        match=rf"^{re.escape(str(path))}: describes its model by architecture, classes; it was",
    ):
        checkpoint.load(path)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_list_of_networks_without_batch_norm_is_true(name: ArchitectureName) -> None:
    network = ARCHITECTURES[name](10, 3, 32)
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert has_batch_norm == (name not in WITHOUT_BATCH_NORM)
