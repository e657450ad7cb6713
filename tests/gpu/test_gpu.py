"""Every stage on a GPU, next to the same stage on the CPU.

``make gpu-check`` runs these tests. Where torch finds no GPU, they are a rehearsal: the CPU takes
the place of the GPU, so commands, files and comparisons are tested, but not the numbers of a GPU.

Random starts, augmentation and data order are drawn on the device. A GPU therefore trains and
attacks with other random numbers, and such stages only agree within what another seed would change.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from rift import data
from rift.artifacts import content_digest
from rift.attacks import pgd
from rift.commands.main import run
from rift.config import NormName, RegimeName, TrainingSettings
from rift.data.images import Images
from rift.device import autocast, choose_device
from rift.errors import RiftError
from rift.models import build, checkpoint
from rift.training.regimes import REGIMES
from rift.training.trainer import train
from tests.commands.parsing import parse_command
from tests.interrupted import KeepEverything, loaded

pytestmark = pytest.mark.gpu

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
ATTACK = ["--attack.eps", "0.1", "--attack.step", "0.05", "--attack.steps", "3"]
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="torch finds no GPU")


def rift(*words: object) -> None:
    run(parse_command(*map(str, words)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data, a base that was trained on the CPU, and corrupted images."""
    folder = tmp_path_factory.mktemp("gpu")
    rift(
        *("prepare", "--dataset", "digits", "--data.validation", 0.2, "--data.test", 0.3),
        *("--output", folder / "data.safetensors", "--manifest", folder / "data.json"),
    )
    rift(
        *("corrupt", "--data", folder / "data.safetensors", "--corruption", "contrast"),
        *("--output", folder / "contrast.npy"),
    )
    trained(folder, "cpu")
    return folder


def trained(folder: Path, device: str) -> Path:
    path = folder / f"base-{device}.safetensors"
    if not path.exists():
        rift(
            *("train", "--data", folder / "data.safetensors", "--architecture", "resnet8"),
            *("--train.epochs", 3, "--train.learning_rate", 0.05, "--train.milestones", "2"),
            *("--train.batch_size", 64, "--train.precision", "float32", "--augment.crop", 1),
            *("--augment.flip", "false", *ATTACK, "--device", device),
            *("--output", path, "--history", folder / f"history-{device}.csv"),
        )
    return path


def both(folder: Path, name: str, *words: object, output: str) -> tuple[Path, Path]:
    """Run a command on the CPU and on the device, and return the two outputs."""
    paths = tuple(folder / f"{name}-{number}.{output}" for number in (0, 1))
    for path, device in zip(paths, ("cpu", DEVICE), strict=True):
        with_place = [str(word).replace("PLACE", str(path.with_suffix(""))) for word in words]
        rift(*with_place, "--device", device, "--output", path)
    return paths[0], paths[1]


def of_base(folder: Path) -> list[object]:
    return ["--base", folder / "base-cpu.safetensors", "--data", folder / "data.safetensors"]


def of_weights(folder: Path) -> list[object]:
    return ["--weights", folder / "base-cpu.safetensors", "--data", folder / "data.safetensors"]


def assert_alike(results: tuple[Path, Path], share: float) -> None:
    """Check that at least a share of all outcomes in two evaluations are equal."""
    here, there = (path.with_suffix(".npz") for path in results)
    with np.load(here) as one, np.load(there) as other:
        assert set(one) == set(other)
        compared = 0
        for name in one:
            if one[name].dtype != np.bool_:
                continue
            assert (one[name] == other[name]).mean() >= share, name
            compared += one[name].size
    assert compared >= 200


def test_training_ends_as_accurate(folder: Path) -> None:
    """The two see other batches and starts: as two seeds, they are within ten points."""
    trained(folder, DEVICE)
    here, there = (
        pd.read_csv(folder / f"history-{device}.csv", comment="#").iloc[-1]
        for device in ("cpu", DEVICE)
    )
    for column in ("standard_accuracy", "adversarial_accuracy"):
        assert there[column] == pytest.approx(here[column], abs=10)
    assert there["standard_accuracy"] > 30


def test_a_gradient_is_the_same(folder: Path) -> None:
    """The gradient of one batch: in float32, to a thousandth of its largest entry."""
    split = data.load(folder / "data.safetensors", ("train",)).split("train").up_to(128)
    found = []
    for device in (torch.device("cpu"), choose_device(DEVICE)):
        model, _ = checkpoint.load(folder / "base-cpu.safetensors", device)
        images = split.to(device)
        model.train()
        nn.functional.cross_entropy(model(images.floats()), images.labels).backward()
        found.append(
            [weight.grad.cpu() for weight in model.parameters() if weight.grad is not None]
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def test_criticality_is_the_same(folder: Path) -> None:
    """MRC with equal adversarial examples: within 2%, in the same order."""
    rift(
        *("examples", *of_base(folder), "--criticality.images", 128, *ATTACK),
        *("--device", "cpu", "--output", folder / "examples.safetensors"),
    )
    words = ["criticality", *of_base(folder), "--criticality.images", 128, *ATTACK]
    words += ["--criticality.precision", "float32", "--criticality.restarts", 3]
    words += ["--criticality.method", "pga"]
    words += ["--adversarial", folder / "examples.safetensors"]
    here, there = (
        pd.read_csv(path, comment="#").set_index("module")["mrc"]
        for path in both(folder, "criticality", *words, output="csv")
    )
    assert list(here.index) == list(there.index)
    np.testing.assert_allclose(there, here, rtol=0.02)
    assert here.corr(there, method="spearman") > 0.95


def test_fine_tuning_and_the_sweep_end_alike(folder: Path) -> None:
    """Other batches and starts of PGD: accuracies within ten points, as between two seeds."""
    measured = folder / "measured.csv"
    rift(
        *("criticality", *of_base(folder), "--criticality.images", 32, "--device", "cpu", *ATTACK),
        *("--criticality.method", "gradient", "--output", measured),
    )
    words = ["finetune", *of_base(folder), "--scope", "module-linear", "--finetune.epochs", 2]
    words += ["--criticality", measured]
    words += ["--finetune.learning_rate", 0.05, "--finetune.precision", "float32"]
    words += ["--augment.crop", 1, "--augment.flip", "false", "--history", "PLACE-history.csv"]
    here, there = both(folder, "finetuned", *words, output="safetensors")
    sweeps = []
    for number, (path, device) in enumerate(((here, "cpu"), (there, DEVICE))):
        rift(
            *("interpolate", *of_base(folder), "--finetuned", path, *ATTACK, "--device", device),
            *("--interpolate.alphas", "0,0.5,1", "--interpolate.restarts", 1),
            *("--sweep", folder / f"sweep-{number}.csv", "--choice", folder / f"{number}.json"),
            *("--output", folder / f"selected-{number}.safetensors"),
        )
        sweeps.append(pd.read_csv(folder / f"sweep-{number}.csv", comment="#"))
    for column in ("standard_accuracy", "adversarial_accuracy"):
        np.testing.assert_allclose(sweeps[1][column], sweeps[0][column], atol=10)


def test_clean_images_are_classified_alike(folder: Path) -> None:
    """Nothing is random: at most one image in 200 is so near a boundary that rounding decides."""
    words = ["evaluate", "standard", *of_weights(folder), "--outcomes", "PLACE.npz"]
    assert_alike(both(folder, "standard", *words, output="json"), 0.995)


def test_corrupted_images_are_classified_alike(folder: Path) -> None:
    words = ["evaluate", "ood", *of_weights(folder), "--corrupted", folder / "contrast.npy"]
    words += ["--evaluate.ood.corruptions", "contrast", "--outcomes", "PLACE.npz"]
    assert_alike(both(folder, "ood", *words, output="csv"), 0.995)


def test_attacks_succeed_alike(folder: Path) -> None:
    """PGD and AutoAttack with other random starts: nineteen of twenty images end alike."""
    words = ["evaluate", "adversarial", *of_weights(folder), *ATTACK, "--attacks", "pgd,autoattack"]
    words += ["--evaluate.pgd.images", 200, "--evaluate.pgd.restarts", 1]
    words += ["--evaluate.autoattack.images", 40, "--evaluate.autoattack.attacks", "apgd-ce"]
    words += ["--outcomes", "PLACE.npz"]
    assert_alike(both(folder, "adversarial", *words, output="json"), 0.95)


def settings(**train: Any) -> TrainingSettings:
    return TrainingSettings.model_validate(
        {
            "attack": {"eps": 0.1, "step": 0.05, "steps": 2},
            "augment": {"crop": 1, "flip": False},
            "train": {"epochs": 2, "batch_size": 64, "learning_rate": 0.05, **train},
        }
    )


def fresh(device: torch.device, seed: int = 0) -> nn.Module:
    return build("resnet8", classes=10, size=8, mean=(0.3,), std=(0.3,), seed=seed).to(device)


def on_device(digits: Images) -> tuple[torch.device, Images, Images]:
    device = choose_device(DEVICE)
    return device, digits.take(slice(0, 256)).to(device), digits.take(slice(256, 356)).to(device)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_goes_on_bit_for_bit(precision: str, digits: Images) -> None:
    """From a state within an epoch, and from one between epochs, the end is the same."""
    device, images, validation = on_device(digits)
    chosen = settings(precision=precision, compile="never")
    ends = []
    keep = KeepEverything()
    for content in (None, *range(2)):
        work = keep
        if content is not None:
            work = KeepEverything(loaded(keep.saved[(1, len(keep.saved) // 2)[content]]))
        model = fresh(device, seed=0 if content is None else 1)
        train(model, images, validation, regime=REGIMES["pgd"], settings=chosen, seed=0, work=work)
        buffer = io.BytesIO()
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, buffer)
        ends.append(buffer.getvalue())
    assert len(keep.saved) > 6
    assert ends[0] == ends[1] == ends[2]


def test_equal_runs_are_equal(folder: Path, tmp_path: Path) -> None:
    """Two measurements of one command have the same content, deterministic on the device."""
    words = ["criticality", *of_base(folder), "--criticality.images", 64, *ATTACK]
    words += ["--criticality.restarts", 1, "--device", DEVICE]
    for number in (0, 1):
        rift(*words, "--output", tmp_path / f"{number}.csv")
    assert content_digest(tmp_path / "0.csv") == content_digest(tmp_path / "1.csv")


def test_bfloat16_is_near_float32(folder: Path) -> None:
    """Logits within a few percent of their spread, and hardly another class."""
    device = choose_device(DEVICE)
    model, _ = checkpoint.load(folder / "base-cpu.safetensors", device)
    images = data.load(folder / "data.safetensors", ("test",)).split("test").to(device).floats()
    with torch.no_grad():
        exact = model(images)
        with autocast("bfloat16", device):
            short = model(images).float()
    assert (exact - short).abs().max() < 0.1 * exact.std()
    assert (exact.argmax(1) == short.argmax(1)).double().mean() > 0.97


@needs_gpu
@pytest.mark.parametrize("compiling", ["always", "graphs"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
# TRADES needs the logits of the clean images after ten more passes, and AWP moves the weights.
@pytest.mark.parametrize("regime", ["pgd", "trades-awp"])
def test_a_compiled_network_trains_alike(
    regime: RegimeName, precision: str, compiling: str, digits: Images
) -> None:
    """The same random numbers: the loss of the first epoch within 2% (5% in bfloat16)."""
    device, images, validation = on_device(digits)
    losses = []
    for how in ("never", compiling):
        chosen = settings(precision=precision, compile=how)
        result = train(
            fresh(device), images, validation, regime=REGIMES[regime], settings=chosen, seed=0
        )
        losses.append(result.history[0].train_loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.02 if precision == "float32" else 0.05)


@needs_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one(folder: Path, tmp_path: Path) -> None:
    """The batches are shared, and so is the order: accuracies within ten points."""
    rift(
        *("train", "--data", folder / "data.safetensors", "--architecture", "resnet8"),
        *("--train.epochs", 3, "--train.learning_rate", 0.05, "--train.milestones", "2"),
        *("--train.batch_size", 64, "--train.processes", 2, *ATTACK),
        *("--augment.crop", 1, "--augment.flip", "false"),
        *("--output", tmp_path / "base.safetensors", "--history", tmp_path / "history.csv"),
    )
    one, two = (
        pd.read_csv(path, comment="#").iloc[-1]["standard_accuracy"]
        for path in (folder / "history-cpu.csv", tmp_path / "history.csv")
    )
    assert two == pytest.approx(one, abs=10)


@needs_gpu
def test_too_little_memory_is_one_line(folder: Path, tmp_path: Path) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.0005)
    try:
        with pytest.raises(RiftError, match="memory") as refused:
            rift(
                *("train", "--data", folder / "data.safetensors", "--architecture", "resnet18"),
                *("--train.batch_size", 1000, *ATTACK, "--device", DEVICE),
                *("--output", tmp_path / "x.safetensors", "--history", tmp_path / "x.csv"),
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "batch_size" in str(refused.value)
    assert not (tmp_path / "x.safetensors").exists()


def test_an_attack_stays_in_its_ball(digits: Images) -> None:
    device, images, _ = on_device(digits)
    pixels = images.floats()
    model = fresh(device).eval()
    sizes: dict[NormName, float] = {"linf": 0.1, "l2": 0.5}
    for norm, eps in sizes.items():
        generator = torch.Generator(device).manual_seed(0)
        attacked = pgd(
            model,
            pixels,
            images.labels,
            eps=eps,
            step=eps / 4,
            steps=5,
            norm=norm,
            generator=generator,
        )
        change = (attacked - pixels).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert size.max() <= eps * (1 + 1e-5)
        assert attacked.min() >= 0
        assert attacked.max() <= 1
