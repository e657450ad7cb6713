"""A training can be interrupted at any time and still gives the same result."""

import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rift import artifacts, models
from rift.artifacts.resume import Work
from rift.config import Attack, Augment, Awp, Inner, Train, TrainingSettings
from rift.data.images import Images
from rift.data.prepared import Prepared, save
from rift.training.history import Trained, TrainingEpoch
from rift.training.regimes import REGIMES
from rift.training.trainer import train
from tests.interrupted import KeepEverything, loaded

SETTINGS = TrainingSettings(
    train=Train(
        epochs=3,
        batch_size=32,
        learning_rate=0.05,
        milestones=(2,),
        averaging=0.9,
    ),
    attack=Attack(eps=0.1, step=0.05, steps=2),
    inner=Inner(start="normal"),
    augment=Augment(crop=1, flip=True),
    awp=Awp(gamma=0.01, warmup=1),
)


def fresh() -> nn.Module:
    model = models.build("resnet8", classes=10, size=8, mean=(0.3,), std=(0.4,))
    model.linear = nn.Sequential(nn.Dropout(0.3), model.get_submodule("linear"))
    return model


def run(digits: Images, work: Work, every: int = 1) -> tuple[nn.Module, Trained]:
    model = fresh()
    chosen = SETTINGS.train.model_copy(update={"measure_every": every})
    return model, train(
        model,
        digits.take(slice(96)),
        digits.take(slice(96, 160)),
        regime=REGIMES["trades-awp"],
        settings=SETTINGS.model_copy(update={"train": chosen}),
        seed=0,
        work=work,
    )


def without_times(trained: Trained) -> list[object]:
    return [
        replace(row, seconds=0, images_per_second=0)
        for row in trained.history
        if isinstance(row, TrainingEpoch)
    ]


@pytest.mark.parametrize(("every", "epochs"), [(1, 3), (2, 2)])
def test_every_state_that_is_kept_leads_to_the_same_end(
    digits: Images, every: int, epochs: int
) -> None:
    """The state contains everything that changes.

    These are averaged weights, perturbed weights, augmentation, noise and the learning rate.
    """
    work = KeepEverything()
    model, whole = run(digits, work, every)
    kept = work.saved
    assert len(without_times(whole)) == epochs
    # Training saves after every batch and after every epoch.
    assert len(kept) == 3 * (3 + 1)
    for number, content in enumerate(kept):
        # Another process has a different global random state.
        torch.manual_seed(number)
        state = loaded(content)
        other, resumed = run(digits, KeepEverything(state), every)
        assert all(
            torch.equal(value, other.state_dict()[name])
            for name, value in model.state_dict().items()
        ), number
        assert all(
            torch.equal(value, resumed.state[name]) for name, value in whole.state.items()
        ), number
        assert (resumed.kept, resumed.averaged) == (whole.kept, whole.averaged)
        assert without_times(resumed) == without_times(whole)


@pytest.fixture(scope="module")
def prepared_set(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a prepared data set of few images, so that a training takes seconds."""
    few = {"train": 320, "validation": 64, "test": 64}
    small = replace(
        prepared,
        images={split: images[: few[split]] for split, images in prepared.images.items()},
        labels={split: labels[: few[split]] for split, labels in prepared.labels.items()},
    )
    path = tmp_path_factory.mktemp("data") / "prepared.safetensors"
    save(path, small, artifacts.provenance("test", {}))
    return path


def command(data: Path, folder: Path, *more: str) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "rift",
            "train",
            "--data",
            str(data),
            "--architecture",
            "resnet8",
            "--regime",
            "awp",
        ),
        *(
            "--train.epochs",
            "4",
            "--train.batch_size",
            "32",
            "--train.learning_rate",
            "0.05",
            "--train.averaging",
            "0.9",
        ),
        *(
            "--attack.eps",
            "0.2",
            "--attack.step",
            "0.05",
            "--attack.steps",
            "5",
            "--augment.crop",
            "1",
        ),
        *("--train.save_minutes", "0.002", "--device", "cpu"),
        *(
            "--output",
            str(folder / "base.safetensors"),
            "--history",
            str(folder / "training.csv"),
            *more,
        ),
    ]


def started(arguments: list[str], wait_for: Path) -> "subprocess.Popen[str]":
    """Start a training and return when it has saved a state."""
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not wait_for.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert wait_for.exists()
    return process


@pytest.fixture(scope="module")
def killed_once(prepared_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the state of a training that was killed."""
    folder = tmp_path_factory.mktemp("killed")
    process = started(command(prepared_set, folder), folder / "base.safetensors.state")
    process.kill()
    process.communicate()
    return folder


@pytest.fixture
def interrupted(killed_once: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder of a killed training, which a test may change."""
    folder = tmp_path / "interrupted"
    shutil.copytree(killed_once, folder)
    return folder


@pytest.mark.long
def test_killed_five_times_at_random_moments_it_ends_in_the_same_bytes(
    prepared_set: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(prepared_set, whole), check=True, capture_output=True)
    lasts = artifacts.read_csv(whole / "training.csv", ("seconds",))["seconds"].sum()
    state = killed / "base.safetensors.state"
    moments = random.Random(time.time_ns())
    kills = 0
    for _ in range(5):
        before = state.stat().st_mtime_ns if state.exists() else None
        process = subprocess.Popen(command(prepared_set, killed), stderr=subprocess.DEVNULL)
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.01)
        # Five such times are less than the time of the whole training, if the load of the machine
        # stays the same. Otherwise, the last of the five may find it finished.
        time.sleep(moments.uniform(0, lasts / 8))
        if process.poll() is not None:
            break
        process.kill()
        assert process.wait() == -signal.SIGKILL
        kills += 1
    assert kills >= 3
    if not (killed / "base.safetensors").exists():
        last = command(prepared_set, killed)
        done = subprocess.run(last, check=True, capture_output=True, text=True)
        assert "continuing in epoch" in done.stderr
    assert (killed / "base.safetensors").read_bytes() == (whole / "base.safetensors").read_bytes()
    histories = [
        artifacts.read_csv(folder / "training.csv", ("epoch",)).drop(
            columns=["seconds", "images_per_second"]
        )
        for folder in (whole, killed)
    ]
    assert histories[0].equals(histories[1])
    assert sorted(path.name for path in killed.iterdir()) == ["base.safetensors", "training.csv"]


def test_a_state_of_other_settings_is_refused_with_their_names(
    prepared_set: Path, interrupted: Path
) -> None:
    others = command(prepared_set, interrupted, "--awp.gamma", "0.02", "--seed", "3")
    done = subprocess.run(others, capture_output=True, text=True)
    assert done.returncode == 1
    (message,) = (line for line in done.stderr.splitlines() if "error" in line)
    assert "--awp.gamma (was 0.01, now 0.02), --seed (was 0, now 3); restore them" in message
    assert "Traceback" not in done.stderr
    assert (interrupted / "base.safetensors.state").exists()


def test_a_state_of_other_data_is_refused(prepared: Prepared, interrupted: Path) -> None:
    other = replace(
        prepared, labels={**prepared.labels, "train": prepared.labels["train"][::-1].copy()}
    )
    path = interrupted.with_name("other.safetensors")
    save(path, other, artifacts.provenance("test", {}))
    done = subprocess.run(command(path, interrupted), capture_output=True, text=True)
    assert done.returncode == 1
    assert "was saved with other settings: --data (was content " in done.stderr


def test_how_a_run_is_watched_may_change(prepared_set: Path, interrupted: Path) -> None:
    done = subprocess.run(
        command(prepared_set, interrupted, "--train.save_minutes", "5"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "continuing in epoch" in done.stderr


def test_training_starts_again_where_no_state_is_intact(
    prepared_set: Path, interrupted: Path
) -> None:
    state = interrupted / "base.safetensors.state"
    (interrupted / "base.safetensors.state.previous").unlink(missing_ok=True)
    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2])
    done = subprocess.run(command(prepared_set, interrupted), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{state}: is damaged" in done.stderr
    assert "no saved state is intact; starting from the beginning" in done.stderr
    assert sorted(path.name for path in interrupted.iterdir()) == [
        "base.safetensors",
        "training.csv",
    ]


def test_a_second_process_on_the_same_run_is_refused(prepared_set: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    first = started(command(prepared_set, folder), folder / "base.safetensors.state")
    try:
        first.send_signal(signal.SIGSTOP)
        second = subprocess.run(command(prepared_set, folder), capture_output=True, text=True)
        assert second.returncode == 1
        message = "base.safetensors.lock: another process is working on the same output"
        assert message in second.stderr
        first.send_signal(signal.SIGCONT)
        first.communicate()
        # The second training did not affect the first one.
        assert first.returncode == 0
    finally:
        first.kill()


def test_the_history_grows_by_a_row_an_epoch(interrupted: Path, prepared_set: Path) -> None:
    state = artifacts.read_state(interrupted / "base.safetensors.state", ("run",))["run"]
    shutil.rmtree(interrupted)
    process = started(command(prepared_set, interrupted), interrupted / "training.csv")
    process.kill()
    process.communicate()
    rows = artifacts.read_csv(
        interrupted / "training.csv", ("epoch", "adversarial_accuracy", "seconds")
    )
    assert rows["epoch"].tolist() == list(range(1, len(rows) + 1))
    assert not (interrupted / "base.safetensors").exists()
    assert state["epoch"]["epoch"] >= 1


def test_asked_to_stop_within_an_epoch_it_saves_and_the_next_run_ends_in_the_same_bytes(
    prepared_set: Path, tmp_path: Path
) -> None:
    """Training saves only after the first epoch and after the signal.

    The next regular state would follow hours later.
    """
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    rarely = ("--train.save_minutes", "600", "--train.batch_size", "8", "--attack.steps", "1")
    subprocess.run(command(prepared_set, whole, *rarely), check=True, capture_output=True)
    state = stopped / "base.safetensors.state"
    process = started(command(prepared_set, stopped, *rarely), state)
    time.sleep(0.2)  # The second epoch has 40 steps, so the signal comes between two of them.
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    saved = artifacts.read_state(state, ("run",))["run"]["epoch"]
    assert saved["epoch"] >= 2
    assert 0 < saved["steps"] < len(saved["order"]) / 8
    assert not (stopped / "base.safetensors").exists()
    subprocess.run(command(prepared_set, stopped, *rarely), check=True, capture_output=True)
    assert (stopped / "base.safetensors").read_bytes() == (whole / "base.safetensors").read_bytes()
    assert not state.exists()
