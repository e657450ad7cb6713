"""Architectures from outside: a function in a file of the user."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from rift import artifacts, models
from rift.commands.criticality import Criticality
from rift.commands.train import Train
from rift.config import parse
from rift.errors import RiftError
from rift.layout import Run
from rift.models import checkpoint

NAME = "mynet_of_tests.small:build"
SOURCE = """
from torch import nn

def build(classes, channels, size):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (size - 2) ** 2, classes)
    )

def other(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, classes + 1))

def deep(classes, channels, size):
    return nn.Linear(size * 2, classes)

def none(classes, channels, size):
    return classes

def fails(classes, channels, size):
    raise ValueError("no such size\\nat all")

class Mine(nn.Sequential):
    pass

def subclass(classes, channels, size):
    return Mine(nn.Flatten(), nn.Linear(channels * size**2, classes))

NUMBER = 1
"""
SHAPE = {"classes": 3, "size": 8, "mean": (0.5,), "std": (0.25,)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the architecture, below the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "mynet_of_tests", raising=False)
    monkeypatch.delitem(__import__("sys").modules, "mynet_of_tests.small", raising=False)
    path = tmp_path / "mynet_of_tests/small.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


def built(name: str, seed: int = 0) -> nn.Module:
    return models.build(name, classes=3, size=8, mean=(0.5,), std=(0.25,), seed=seed)


def test_a_network_from_outside_is_normalised_and_drawn_by_the_seed(file: Path) -> None:
    model, images = built(NAME), torch.rand(5, 1, 8, 8)
    assert torch.equal(model(images), built(NAME)(images))
    assert not torch.equal(model(images), built(NAME, seed=1)(images))
    assert [name for name, _ in model.named_children()] == ["0", "1", "2", "3", "normalize"]
    plain = nn.Sequential(*list(model.children())[:4])
    torch.testing.assert_close(model(images), plain((images - 0.5) / 0.25))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nowhere:build", r"the working directory .* has no module nowhere; write .* nowhere\.py"),
        ("json:dumps", r"has no module json"),
        ("mynet_of_tests.small:builds", r"has no function builds"),
        ("mynet_of_tests.small:NUMBER", r"has no function NUMBER"),
        ("mynet_of_tests.small:none", r"none\(3, 1, 8\) returns int; .* torch\.nn\.Module"),
        ("mynet_of_tests.small:fails", r"fails\(3, 1, 8\) fails: ValueError: no such size$"),
        ("mynet_of_tests.small:other", r"shape \(2, 4\) for 2 images and 3 .* shape \(2, 3\)"),
        ("mynet_of_tests.small:deep", r"fails on images of shape \(2, 1, 8, 8\): RuntimeError: "),
        ("mynet_of_tests.small:subclass", r"returns a subclass of torch\.nn\.Sequential"),
        ("mynet_of_tests.broken:build", r"cannot be imported: ModuleNotFoundError: .*'nothing'"),
    ],
)
def test_what_is_wrong_with_a_network_from_outside_is_said(
    name: str, problem: str, file: Path
) -> None:
    file.with_name("broken.py").write_text("import nothing")
    with pytest.raises(RiftError, match=problem):
        built(name)


def test_a_file_hidden_by_another_module_is_refused(file: Path) -> None:
    Path("json.py").write_text(SOURCE)
    with pytest.raises(RiftError, match=r"Python has another module json, .*; rename your file"):
        built("json:build")


def test_weights_alone_run_no_code_and_notice_an_edit(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = checkpoint.ModelSpec(NAME, 3, 8, (0.5,), (0.25,))
    weights, model = Path("w.safetensors"), built(NAME)
    checkpoint.save(weights, model.state_dict(), spec, artifacts.provenance("test", {}))
    marker = file.with_name("was-run")
    text = file.read_text()
    file.write_text(f"{text}\nopen({str(marker)!r}, 'w')\n")

    with pytest.raises(RiftError, match=rf"if you trust that file, set RIFT_ARCHITECTURES={NAME}"):
        checkpoint.load(weights)
    monkeypatch.setenv("RIFT_ARCHITECTURES", f"resnet8,{NAME}")
    with pytest.raises(RiftError, match=r"has changed since these weights were made; restore it"):
        checkpoint.load(weights)
    assert not marker.exists()

    file.write_text(text)
    loaded, found = checkpoint.load(weights)
    assert found == spec
    images = torch.rand(5, 1, 8, 8)
    assert torch.equal(loaded(images), model.eval()(images))


def test_a_network_from_outside_is_trained_and_measured(
    file: Path, prepared_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is an input of the training, like the data set."""
    Train.model_validate(
        {
            "data": prepared_set,
            "architecture": NAME,
            "regime": "standard",
            "train": {"epochs": 1, "batch_size": 512},
            "augment": {"crop": 0},
            "device": "cpu",
            "output": "base.safetensors",
            "history": "training.csv",
        }
    ).run()
    facts = artifacts.read_facts(Path("base.safetensors"))
    assert facts["provenance"]["inputs"]["code"] == facts["code"]
    monkeypatch.setenv("RIFT_ARCHITECTURES", NAME)
    Criticality.model_validate(
        {
            "base": "base.safetensors",
            "data": prepared_set,
            "criticality": {"images": 32, "passes": 2},
            "attack": {"steps": 1},
            "device": "cpu",
            "output": "criticality.csv",
        }
    ).run()
    table = pd.read_csv("criticality.csv", comment="#", dtype={"module": str})
    assert set(table["module"]) == {"0", "3"}


def test_the_experiment_knows_the_file(file: Path) -> None:
    grid = {"datasets": ["digits"], "architectures": ["resnet8", NAME], "seeds": [0]}
    experiment = parse({"experiment": "x", "grid": grid}, "x.yaml")
    own = Run.parse(f"runs/digits/{NAME}/pgd/seed0")
    assert experiment.code(own) == ["mynet_of_tests/small.py"]
    assert experiment.code(Run.parse("runs/digits/resnet8/pgd/seed0")) == []
    file.unlink()
    with pytest.raises(RiftError, match="has no module"):
        experiment.code(own)
