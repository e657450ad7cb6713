"""Models from the RobustBench model zoo, and models for other programs."""

import importlib.util
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rift import models
from rift.artifacts import provenance, read_json
from rift.commands.main import run
from rift.config import ImportedBase
from rift.errors import RiftError
from rift.importing import import_base
from rift.models import checkpoint, export, weight_files
from rift.models.robustbench import load_robustbench
from rift.models.state import without_normalisation
from rift.thirdparty import prepare_robustbench
from rift.transferring import network_for_target
from tests.commands.parsing import parse_command

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def fresh(
    architecture: str, mean: tuple[float, ...] = (0.0,) * 3, std: tuple[float, ...] = (1.0,) * 3
) -> nn.Module:
    model = models.build(architecture, classes=10, size=32, mean=mean, std=std, seed=3)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    return model.eval()


def images(size: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.rand(4, channels, size, size, generator=torch.Generator().manual_seed(0))


def cached(folder: Path, name: str, content: Any) -> Path:
    """Put a file where RobustBench looks for it before a download."""
    path = folder / "models/cifar10/Linf" / f"{name}.pt"
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "architecture", "normalised"),
    [("Wong2020Fast", "preact-resnet18", True), ("Addepalli2022Efficient_RN18", "resnet18", False)],
)
def test_a_network_of_the_zoo_becomes_ours(
    name: str, architecture: str, normalised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = export.plain_state(fresh(architecture))
    cached(tmp_path, name, {"state_dict": {f"module.{key}": value for key, value in state.items()}})
    like = checkpoint.ModelSpec(architecture, 10, 32, (0.3,) * 3, (0.2,) * 3)
    found = import_base(
        ImportedBase(weights=f"robustbench:{name}"), like, dataset="cifar10", images=images()
    )
    spec = found.spec
    assert found.facts["normalization"]["from"] == ("file" if normalised else "none")
    assert (spec.mean, spec.std) == (
        (pytest.approx(MEAN), pytest.approx(STD)) if normalised else ((0,) * 3, (1,) * 3)
    )
    reference = load_robustbench(name, "cifar10")
    with torch.no_grad():
        torch.testing.assert_close(found.model(images()), reference(images()), rtol=1e-4, atol=1e-4)


def test_a_network_of_the_zoo_that_does_more_than_its_weights_say_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cached(
        tmp_path,
        "Addepalli2022Efficient_RN18",
        {"state_dict": export.plain_state(fresh("resnet18"))},
    )
    prepare_robustbench()
    from robustbench.model_zoo.architectures.resnet import ResNet

    forward = ResNet.forward
    monkeypatch.setattr(ResNet, "forward", lambda self, x: forward(self, (x - 0.4) / 0.25))
    like = checkpoint.ModelSpec("resnet18", 10, 32, MEAN, STD)
    with pytest.raises(
        RiftError, match=r"the weights fit, but the logits differ from those of RobustBench"
    ):
        base = ImportedBase(weights="robustbench:Addepalli2022Efficient_RN18")
        import_base(base, like, dataset="cifar10", images=images())


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_the_zoo_s_files_are_read_safely_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = cached(tmp_path, "Wong2020Fast", {"state_dict": Malicious(tmp_path / "was-run")})
    with pytest.raises(
        RiftError, match=r"robustbench:Wong2020Fast: cannot be loaded .*Wong2020Fast\.pt"
    ):
        load_robustbench("Wong2020Fast", "cifar10")
    assert not (tmp_path / "was-run").exists()
    assert path.exists()


def test_what_the_zoo_does_not_have_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        RiftError,
        match=(
            r"is not one of .* \d+ Linf networks for cifar10; "
            r"choose one of them, such as Wong2020Fast"
        ),
    ):
        load_robustbench("Wong2020fast", "cifar10")
    with pytest.raises(
        RiftError,
        match=r"is a network for L2, and the threat model is Linf; set attack\.norm to l2",
    ):
        load_robustbench("Augustin2020Adversarial", "cifar10")
    with pytest.raises(RiftError, match=r"has no L2 networks for cifar100; choose another"):
        load_robustbench("nothing", "cifar100", "l2")
    with pytest.raises(
        RiftError, match=r"has no networks for tiny-imagenet, only for cifar10, cifar100, ima"
    ):
        load_robustbench("Wong2020Fast", "tiny-imagenet")

    def no_network(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    prepare_robustbench()
    monkeypatch.setattr("robustbench.utils.download_gdrive_new", no_network)
    with pytest.raises(
        RiftError,
        match=r"cannot be loaded \(no route to host\); .* the weights to models/cifar10/Linf",
    ):
        load_robustbench("Wong2020Fast", "cifar10")


@pytest.mark.parametrize(
    ("architecture", "size", "channels", "of_robustbench", "weights"),
    [
        ("resnet18", 32, 3, True, "net.pth"),
        ("resnet18", 64, 3, False, "net.pth"),
        ("resnet8", 8, 1, False, "net.pth"),
        ("resnet8", 8, 1, False, "net.safetensors"),
        ("timm:test_vit", 32, 3, False, "net.pth"),
        ("resnet18", 16, 3, True, "net.pth"),
    ],
)
def test_an_exported_module_gives_the_same_logits(
    architecture: str, size: int, channels: int, of_robustbench: bool, weights: str, tmp_path: Path
) -> None:
    prepare_robustbench()
    enlarge = 32 if size == 16 else None
    colours = (0.3,) * channels, (0.2,) * channels
    spec = checkpoint.ModelSpec(architecture, 10, size, *colours, enlarge=enlarge)
    model = models.build(**asdict(spec), seed=5).eval()
    checkpoint.save(tmp_path / "base.safetensors", model.state_dict(), spec, provenance("test", {}))
    rift(
        "export",
        tmp_path,
        "--weights",
        "base.safetensors",
        "--output",
        weights,
        "--module",
        "net.py",
    )
    if weights.endswith(".safetensors"):
        load_file(tmp_path / weights)
    assert ("from robustbench." in (tmp_path / "net.py").read_text()) == of_robustbench
    loaded = importlib.util.spec_from_file_location("net", tmp_path / "net.py")
    assert loaded is not None
    assert loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    network: Callable[[torch.Tensor], torch.Tensor] = module.load_model()
    with torch.no_grad():
        torch.testing.assert_close(
            network(images(size, channels)), model(images(size, channels)), rtol=1e-4, atol=1e-4
        )
    # The import reads the plain state dict again.
    fitted = weight_files.match_names(
        weight_files.read(tmp_path / weights).state, models.build(**asdict(spec)), weights
    )
    assert fitted.mean is None
    for name, value in fitted.state.items():
        assert torch.equal(value, model.state_dict()[name])


def rift(command: str, folder: Path, *words: str) -> None:
    paths = (str(folder / word) if "." in word else word for word in words)
    run(parse_command(command, *paths))


def test_weights_of_a_source_without_images_are_imported_for_transfers(tmp_path: Path) -> None:
    spec = checkpoint.ModelSpec("resnet8", 1000, 224, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    network = models.build(**asdict(spec), seed=1)
    plain = without_normalisation(network.state_dict())
    torch.save(plain, tmp_path / "robust.pth")
    written = ("--output", "base.safetensors", "--manifest", "base.json")
    source = ("--weights", "robust.pth", "--architecture", "resnet8", "--source", "imagenet")
    rift("import", tmp_path, *source, "--normalization", "half", *written)
    model, found = checkpoint.load(tmp_path / "base.safetensors")
    assert found == replace(spec, std=(0.5, 0.5, 0.5))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in plain.items())
    report = read_json(tmp_path / "base.json", ("accuracy", "images"))
    assert (report["accuracy"], report["images"]) == ({}, {})
    # The base of a transfer to small images with seven classes.
    _, target, head = network_for_target(model, found, classes=7, channels=3, size=32, seed=0)
    assert (target.classes, target.size, head) == (7, 32, "linear")


def test_a_network_of_the_zoo_for_imagenet_is_the_base_of_a_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    like = checkpoint.ModelSpec("timm:resnet18", 1000, 224, (0.5,) * 3, (0.25,) * 3)
    network = models.build(**asdict(like), seed=1)
    path = tmp_path / "models/imagenet/Linf/Salman2020Do_R18.pt"
    path.parent.mkdir(parents=True)
    torch.save(export.plain_state(network), path)
    name = "robustbench:Salman2020Do_R18"
    words = ("--weights", name, "--architecture", "timm:resnet18", "--source", "imagenet")
    rift("import", tmp_path, *words, "--output", "base.safetensors", "--manifest", "base.json")
    model, spec = checkpoint.load(tmp_path / "base.safetensors")
    assert spec.mean == pytest.approx((0.485, 0.456, 0.406))
    assert torch.equal(model.state_dict()["fc.weight"], network.state_dict()["fc.weight"])


def test_an_export_under_the_name_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RiftError, match=r"net\.onnx: rift writes state dicts of torch, not \.onnx"):
        rift("export", tmp_path, "--weights", "b.safetensors", "--output", "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ['a"b.pth', "a'b.pth", "{weights}.pth", "\\.pth", '"""; raise SystemExit; """.pth', "-x.pth"],
)
def test_the_name_of_the_weights_is_data_in_the_exported_module(
    name: str, tmp_path: Path, resnet8: nn.Module
) -> None:
    spec = checkpoint.ModelSpec("resnet8", 10, 8, (0.3,), (0.2,))
    resnet8.load_state_dict(models.build(**asdict(spec), seed=3).state_dict())
    checkpoint.save(tmp_path / "b.safetensors", resnet8.state_dict(), spec, provenance("test", {}))
    rift("export", tmp_path, "--weights", "b.safetensors", "--output", name, "--module", "net.py")
    scope: dict[str, Any] = {"__file__": str(tmp_path / "net.py"), "__name__": "net"}
    exec(compile((tmp_path / "net.py").read_text(), "net.py", "exec"), scope)
    image = images(8, 1)
    with torch.no_grad():
        torch.testing.assert_close(scope["load_model"]()(image), resnet8.eval()(image))


def test_equal_exports_have_equal_bytes(tmp_path: Path, prepared_model: nn.Module) -> None:
    spec = checkpoint.ModelSpec("resnet8", 10, 8, (0.3,), (0.2,))
    state = prepared_model.state_dict()
    checkpoint.save(tmp_path / "b.safetensors", state, spec, provenance("test", {}))
    for name in ("x.pth", "y.pth"):
        rift("export", tmp_path, "--weights", "b.safetensors", "--output", name)
    assert (tmp_path / "x.pth").read_bytes() == (tmp_path / "y.pth").read_bytes()


def test_a_module_elsewhere_than_its_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RiftError, match=r"--module: .* must be in the folder of"):
        rift(
            "export",
            tmp_path,
            "--weights",
            "b.safetensors",
            "--output",
            "net.pth",
            "--module",
            "elsewhere/net.py",
        )
    assert list(tmp_path.iterdir()) == []
