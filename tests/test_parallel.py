"""Several processes that train together do what one does on the same batches."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F

from rift import artifacts
from rift.config import Attack, Augment, Awp, RegimeName, RunSettings, Train
from rift.data.split import Split, to_float
from rift.training import REGIMES
from rift.training.loop import train
from rift.training.parallel import ALONE, Team, team


def network(norm: bool) -> nn.Module:
    torch.manual_seed(0)
    middle = [nn.BatchNorm2d(6)] if norm else []
    return nn.Sequential(nn.Conv2d(1, 6, 3), *middle, nn.Tanh(), nn.Flatten(), nn.Linear(6 * 36, 10))


@dataclass(frozen=True)
class Case:
    """What is trained, and from which state on."""

    folder: Path
    digits: Split
    regime: RegimeName
    norm: bool = False
    accumulate: int = 1
    crop: int = 1
    resume: str = ""

    def train(self, members: Team) -> None:
        """Train; the first process writes the state after every batch, and what training ends with."""
        kept = iter(range(1000))

        def keep(state: dict[str, Any]) -> None:
            if members.rank == 0 and not self.resume:
                artifacts.write_state(self.folder / f"{next(kept)}.state", state)

        chosen = Train(
            epochs=2, batch_size=40, learning_rate=0.1, averaging=0.9, accumulate=self.accumulate, save_minutes=1e-9
        )
        settings = RunSettings(
            train=chosen,
            attack=Attack(eps=0.1, step=0.05, steps=2),
            augment=Augment(crop=self.crop, flip=False),
            awp=Awp(gamma=0.01),
        )
        images, labels = self.digits
        splits = Split(images[:110], labels[:110]), Split(images[110:170], labels[110:170])
        state = torch.load(self.folder / self.resume, weights_only=True) if self.resume else None
        model = network(self.norm)
        trained = train(model, *splits, REGIMES[self.regime], settings, 0, team=members, state=state, keep_state=keep)
        if members.rank == 0:
            rows = [vars(replace(row, seconds=0, images_per_second=0)) for row in trained.history]
            end = {"model": model.state_dict(), "kept": trained.state, "history": rows}
            artifacts.write_state(self.folder / "end", end)


def in_a_team(rank: int, size: int, port: int, case: Case) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    with team(torch.device("cpu")) as members:
        case.train(members)


def ended(case: Case, processes: int) -> dict[str, Any]:
    if processes == 1:
        case.train(ALONE)
    else:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        spawn(in_a_team, (processes, port, case), nprocs=processes)
    return artifacts.read_state(case.folder / "end", ("model", "kept", "history"))


@pytest.mark.parametrize(("regime", "accumulate"), [("pgd", 1), ("trades-awp", 2)])
def test_two_processes_train_as_one_does(tmp_path: Path, digits: Split, regime: RegimeName, accumulate: int) -> None:
    """Without batch norm; 110 images in batches of 40 leave one of 30, which both share too."""
    case = Case(tmp_path, digits, regime, accumulate=accumulate)
    alone, both = (ended(case, processes) for processes in (1, 2))
    for name, value in alone["model"].items():
        torch.testing.assert_close(both["model"][name], value, rtol=1e-4, atol=1e-6)
    for one, other in zip(alone["history"], both["history"], strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_two_processes_go_on_exactly_where_they_were(tmp_path: Path, digits: Split) -> None:
    case = Case(tmp_path, digits, "awp", norm=True)
    whole, resumed = ended(case, 2), ended(replace(case, resume="3.state"), 2)
    for part in ("model", "kept"):
        assert all(torch.equal(value, resumed[part][name]) for name, value in whole[part].items())
    assert whole["history"] == resumed["history"]


def test_on_the_cpu_batch_norm_sees_the_share_of_each_process(tmp_path: Path, digits: Split) -> None:
    """Which is why networks with batch norm end elsewhere with two processes. The first step, by hand."""
    ended(Case(tmp_path, digits, "standard", norm=True, crop=0), 2)
    after_one = artifacts.read_state(tmp_path / "0.state", ("model", "pass"))
    batch = after_one["pass"]["order"][:40]

    def stepped(parts: Sequence[Tensor]) -> Tensor:
        """The first weight after a step along the mean gradient of the parts."""
        model = network(norm=True)
        weight = model.get_parameter("0.weight")
        losses = [F.cross_entropy(model(to_float(digits.images[part])), digits.labels[part]) for part in parts]
        (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), weight)
        return weight - 0.1 * (gradient + 5e-4 * weight)

    found = after_one["model"]["0.weight"]
    torch.testing.assert_close(found, stepped(batch.tensor_split(2)))
    assert not torch.allclose(found, stepped([batch]), rtol=1e-4, atol=1e-5)


def test_the_command_starts_its_processes_itself(prepared_set: Path, tmp_path: Path) -> None:
    output, history = tmp_path / "base.safetensors", tmp_path / "training.csv"
    command = [
        *(sys.executable, "-m", "rift", "train", "--data", str(prepared_set), "--architecture", "resnet8"),
        *("--train.processes", "2", "--train.epochs", "2", "--attack.steps", "2", "--device", "cpu"),
        *("--output", str(output), "--history", str(history)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 2 kept") + done.stderr.count("epoch 1 kept") == 1
    assert done.stderr.count("computing on cpu") == 1
    assert len(artifacts.read_csv(history, ("epoch",))) == 2
    assert "processes" not in str(artifacts.read_facts(output))

    prepared_set.unlink()
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1
    assert f"{prepared_set}: does not exist" in failed.stderr
    assert "Traceback" not in failed.stderr
