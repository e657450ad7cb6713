"""``rift improve``: from a checkpoint to a better one, with tables, figures and a page."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from rift import artifacts, data, models
from rift.commands.main import run
from rift.errors import RiftError
from rift.models import checkpoint, export
from tests.commands.parsing import parse_command
from tests.models.test_outside import SOURCE

SETTINGS = {
    "architecture": "resnet8",
    "dataset": "digits",
    "data.validation": "0.2",
    "data.test": "0.2",
    "normalization": "dataset",
    "attack.eps": "0.05",
    "attack.step": "0.02",
    "attack.steps": "2",
    "criticality.images": "64",
    "criticality.steps": "2",
    "criticality.restarts": "1",
    "finetune.epochs": "2",
    "finetune.learning_rate": "0.02",
    "augment.crop": "1",
    "augment.flip": "false",
    "interpolate.alphas": "0,0.5,1",
    "interpolate.restarts": "1",
    "interpolate.tolerance": "5",
    "pgd.restarts": "1",
    "test_images": "120",
    "device": "cpu",
}


@pytest.fixture
def weights(prepared_model: nn.Module, tmp_path: Path) -> Path:
    """Return a checkpoint of another program that can be improved."""
    state = {name: value.clone() for name, value in export.plain_state(prepared_model).items()}
    state["linear.bias"][:5] -= 4
    torch.save({"state_dict": state}, tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def words(weights: str, folder: Path, **other: str) -> list[str]:
    """Return the words of the command."""
    flags = {**SETTINGS, "checkpoint": weights, "output": str(folder), **other}
    return ["improve", *(word for name, value in flags.items() for word in (f"--{name}", value))]


def improve(weights: Path, **other: str) -> Path:
    """Run the command, and return the folder that it writes."""
    folder = weights.parent / "better"
    run(parse_command(*words(str(weights), folder, **other)))
    return folder


def accuracy(model: nn.Module, prepared: data.Prepared) -> float:
    test = prepared.split("test").up_to(120)
    with torch.no_grad():
        hits = model(test.floats()).argmax(1) == test.labels
    return 100 * float(hits.double().mean())


def train_briefly(model: nn.Module, prepared: data.Prepared) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train = prepared.split("train")
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(train.floats()), train.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_checkpoint_gets_better_and_everything_is_written(
    weights: Path, prepared: data.Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = improve(weights)
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "improved.pth",
        "mrc.csv",
        "finetuning.csv",
        "sweep.csv",
        "accuracy.csv",
        "accuracy.md",
        "interpolation.png",
        "interpolation.pdf",
        "summary.html",
    }
    said = capsys.readouterr().err
    assert "images correctly; normalization: dataset, from 'state_dict' of the file" in said
    assert "RiFT fine-tuned " in said
    table = artifacts.read_csv(folder / "accuracy.csv", ("before", "after")).set_index("metric")
    model, spec = checkpoint.load(folder / "model.safetensors")
    assert (spec.architecture, spec.mean) == ("resnet8", prepared.mean)
    assert table.loc["clean", "after"] == pytest.approx(accuracy(model, prepared))
    given, improved = (torch.load(path) for path in (weights, folder / "improved.pth"))
    assert list(improved) == list(given["state_dict"])
    model.load_state_dict({**model.state_dict(), **given["state_dict"]})
    before = accuracy(model, prepared)
    assert table.loc["clean", "before"] == pytest.approx(before)
    assert accuracy(checkpoint.load(folder / "model.safetensors")[0], prepared) > before
    assert len(pd.read_csv(folder / "mrc.csv", comment="#")) == 10

    # A second run computes nothing, and other settings replace nothing.
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    improve(weights)
    assert "better: is finished, with the same settings" in capsys.readouterr().err
    with pytest.raises(RiftError, match=r"other settings: --seed \(was 0, now 1\); choose another"):
        improve(weights, seed="1")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written

    # An incomplete folder is computed again, with equal results.
    content = {path: path.read_bytes() for path in folder.iterdir()}
    (folder / "summary.html").unlink()
    improve(weights)
    assert {path: path.read_bytes() for path in folder.iterdir()} == content


def test_a_network_of_your_own_is_built_by_your_file(
    prepared: data.Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mynet_of_improve.py").write_text(SOURCE)

    name: Any = "mynet_of_improve:build"
    model = models.build(name, classes=10, size=8, mean=prepared.mean, std=prepared.std)
    train_briefly(model, prepared)
    torch.save(export.plain_state(model), "mine.pth")
    folder = improve(tmp_path / "mine.pth", architecture=name)
    monkeypatch.setenv("RIFT_ARCHITECTURES", name)
    loaded, _ = checkpoint.load(folder / "model.safetensors")
    table = pd.read_csv(folder / "accuracy.csv", comment="#").set_index("metric")
    assert table.loc["clean", "after"] == pytest.approx(accuracy(loaded, prepared))


def started(arguments: list[str], state: Path) -> "subprocess.Popen[str]":
    """Start the command, and return when it has saved another state than it began with."""
    before = state.stat().st_mtime_ns if state.exists() else None
    process = subprocess.Popen(
        [sys.executable, "-m", "rift", *arguments], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if state.exists() and state.stat().st_mtime_ns != before:
            break
        time.sleep(0.01)
    return process


@pytest.mark.long
def test_killed_and_stopped_it_ends_in_the_same_bytes(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    state = killed / "summary.html.state"
    run(parse_command(*words(str(weights), whole)))

    process = started(words(str(weights), killed), state)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert state.exists() or state.with_name(f"{state.name}.previous").exists()
    with pytest.raises(
        RiftError, match=r"was saved with other settings: --finetune\.epochs \(was 2, now 3\)"
    ):
        run(parse_command(*words(str(weights), killed, **{"finetune.epochs": "3"})))

    process = started(words(str(weights), killed), state)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "continuing: the interrupted run had reached criticality" in said
    assert "run the same command again to continue" in said
    assert not (killed / "summary.html").exists()

    capsys.readouterr()
    run(parse_command(*words(str(weights), killed)))
    assert "continuing: the interrupted run had reached " in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }


def test_a_budget_chooses_numbers_and_keeps_them(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = improve(weights, budget="2h")
    said = capsys.readouterr().err
    # Everything fits.
    expected = "64 images for criticality, 2 epochs on 1,151 images, 287 images for the selection"
    assert f"budget 2h: {expected}, 120 test images" in said
    assert "ms per image forward" in said
    assert expected in (folder / "summary.html").read_text()
    source = artifacts.read_provenance(folder / "mrc.csv")
    assert source["budget"] == {
        "time": "2h",
        "criticality": 64,
        "finetune": 1151,
        "epochs": 2,
        "selection": 287,
        "test": 120,
    }
    with pytest.raises(RiftError, match=r"other settings: --budget \(was 2h, now 1h\)"):
        improve(weights, budget="1h")
    with pytest.raises(ValidationError, match="number with its unit, such as 90s, 30m or 2h"):
        parse_command(*words(str(weights), folder, budget="30"))


def test_wrong_flags_and_files_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="normalization"):
        parse_command(*words("robustbench:X", tmp_path))
    missing = tmp_path / "other.pth"
    with pytest.raises(RiftError, match=r"other\.pth"):
        improve(missing)
    (tmp_path / "better").write_text("a file")
    with pytest.raises(RiftError, match="better is not a folder"):
        improve(weights)


TRAINED = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU())
        self.head = nn.Linear(24, CLASSES)

    def forward(self, pixels):
        return self.head(self.body(pixels - 0.3))

def build():
    model = Network()
    model.load_state_dict(torch.load("trained.pt"))
    return model
"""


def without(*names: str) -> list[str]:
    """Return the words of the command without a network and without some flags."""
    flags = {name: value for name, value in SETTINGS.items() if name not in names}
    return ["improve", *(word for name, value in flags.items() for word in (f"--{name}", value))]


def test_a_network_that_brings_its_weights_is_improved(
    prepared: data.Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mynet_with_weights.py").write_text(TRAINED.replace("CLASSES", "10"))
    space: dict[str, Any] = {}
    exec(TRAINED.replace("CLASSES", "10"), space)
    model = space["Network"]()
    train_briefly(model, prepared)
    torch.save(model.state_dict(), "trained.pt")
    command = [*without("architecture", "normalization"), "--model", "mynet_with_weights:build"]
    run(parse_command(*command, "--output", "better"))
    table = pd.read_csv("better/accuracy.csv", comment="#").set_index("metric")
    assert table.loc["clean", "before"] == pytest.approx(accuracy(model, prepared))
    model.load_state_dict(torch.load("better/improved.pth"))
    assert table.loc["clean", "after"] == pytest.approx(accuracy(model, prepared))
    assert re.search(r"classifies \d\d\.\d\d% of \d+ validation images", capsys.readouterr().err)

    # Other weights are another network, although the file is the same.
    run(parse_command(*command, "--output", "better"))
    assert "is finished" in capsys.readouterr().err
    torch.save({**model.state_dict(), "head.bias": torch.zeros(10)}, "trained.pt")
    with pytest.raises(RiftError, match=r"other settings: .*weights"):
        run(parse_command(*command, "--output", "better"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "one network is needed: --checkpoint with --architecture, --model"),
        (["--checkpoint", "a.pth"], "--checkpoint needs --architecture"),
        (["--model", "a:b", "--robustbench", "Name"], "one network is needed"),
        (["--model", "a:b", "--normalization", "none"], "--normalization applies only to"),
    ],
)
def test_one_network_is_named(flags: list[str], message: str) -> None:
    command = without("architecture", "normalization")
    with pytest.raises(ValidationError, match=message):
        parse_command(*command, *flags, "--output", "better")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (TRAINED.replace("CLASSES", "10"), r"build\(\) fails: FileNotFoundError"),
        ("def build():\n    return 3\n", r"build\(\) returns int; it must return a torch\.nn"),
        (
            TRAINED.replace("CLASSES", "7").replace(
                'torch.load("trained.pt")', "model.state_dict()"
            ),
            r"logits of shape \(2, 7\) for 2 images and 10 classes",
        ),
        (
            TRAINED.replace("CLASSES", "10").replace(
                'torch.load("trained.pt")',
                "{name: 0 * value for name, value in model.state_dict().items()}",
            ),
            "not clearly above chance",
        ),
    ],
)
def test_a_network_that_cannot_be_improved_is_refused_in_one_line(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"mynet_{abs(hash(source))}"
    Path(f"{name}.py").write_text(source)
    command = without("architecture", "normalization")
    with pytest.raises(RiftError, match=message):
        run(parse_command(*command, "--model", f"{name}:build", "--output", "better"))
    assert not list(Path().glob("better/*"))


def test_a_network_of_the_zoo_must_be_of_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = without("architecture", "normalization")
    with pytest.raises(RiftError, match="RobustBench has no networks for digits, only for cifar10"):
        run(parse_command(*command, "--robustbench", "Rice2020Overfitting", "--output", "better"))
