"""Several processes train like a single one on the same batches."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F

from rift import artifacts
from rift.artifacts.resume import State, Work
from rift.config import Attack, Augment, Awp, RegimeName, Train, TrainingSettings
from rift.data.images import Images
from rift.seeds import generator
from rift.training.epoch import EpochState
from rift.training.history import TrainingEpoch
from rift.training.parallel import ALONE, ProcessGroup, joined_group
from rift.training.regimes import REGIMES
from rift.training.trainer import train


def network(norm: bool) -> nn.Module:
    torch.manual_seed(0)
    middle = [nn.BatchNorm2d(6)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), *middle, nn.Tanh(), nn.Flatten(), nn.Linear(6 * 36, 10)
    )


class Numbered(Work):
    """A training that saves each state in a separate file."""

    def __init__(self, folder: Path, state: State | None, *, writes: bool) -> None:
        super().__init__()
        self.folder, self.state, self.writes = folder, state, writes
        self.number = 0

    @property
    def is_due(self) -> bool:
        return True

    def save(self, state: State) -> None:
        if self.writes:
            artifacts.write_state(self.folder / f"{self.number}.state", state)
        self.number += 1


class Trains(Protocol):
    """A training that writes its result to ``end`` in its folder."""

    @property
    def folder(self) -> Path: ...

    def train(self, group: ProcessGroup) -> None: ...


@dataclass(frozen=True)
class Case:
    """The training, and the state that it resumes from."""

    folder: Path
    digits: Images
    regime: RegimeName
    norm: bool = False
    accumulate: int = 1
    crop: int = 1
    images: int = 110
    batch_size: int = 40
    resume: str = ""

    def train(self, group: ProcessGroup) -> None:
        """Train; the first process writes every state and the result."""
        chosen = Train(
            epochs=2,
            batch_size=self.batch_size,
            learning_rate=0.1,
            averaging=0.9,
            accumulate=self.accumulate,
        )
        settings = TrainingSettings(
            train=chosen,
            attack=Attack(eps=0.1, step=0.05, steps=2),
            augment=Augment(crop=self.crop, flip=False),
            awp=Awp(gamma=0.01),
        )
        state = artifacts.read_state(self.folder / self.resume, ()) if self.resume else None
        model = network(self.norm)
        trained = train(
            model,
            self.digits.take(slice(self.images)),
            self.digits.take(slice(110, 170)),
            regime=REGIMES[self.regime],
            settings=settings,
            seed=0,
            group=group,
            work=Numbered(self.folder, state, writes=group.is_main and not self.resume),
        )
        if group.is_main:
            rows = [
                vars(replace(row, seconds=0, images_per_second=0))
                for row in trained.history
                if isinstance(row, TrainingEpoch)
            ]
            end = {"model": model.state_dict(), "kept": trained.state, "history": rows}
            artifacts.write_state(self.folder / "end", end)


def in_a_group(rank: int, size: int, port: int, case: Trains) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
    }
    with joined_group(torch.device("cpu")) as group:
        case.train(group)


def ended(case: Trains, processes: int) -> dict[str, Any]:
    if processes == 1:
        case.train(ALONE)
    else:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        spawn(in_a_group, (processes, port, case), nprocs=processes)
    return artifacts.read_state(case.folder / "end", ("model", "kept", "history"))


@pytest.mark.parametrize(("regime", "accumulate"), [("pgd", 1), ("trades-awp", 2)])
def test_two_processes_train_as_one_does(
    tmp_path: Path, digits: Images, regime: RegimeName, accumulate: int
) -> None:
    """The network has no batch norm. The last batch has 30 images, which both processes share."""
    case = Case(tmp_path, digits, regime, accumulate=accumulate)
    alone, both = (ended(case, processes) for processes in (1, 2))
    for name, value in alone["model"].items():
        torch.testing.assert_close(both["model"][name], value, rtol=1e-4, atol=1e-6)
    for one, other in zip(alone["history"], both["history"], strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_two_processes_go_on_exactly_where_they_were(tmp_path: Path, digits: Images) -> None:
    """After the eighth batch, the processes decide together for the first time whether to save."""
    case = Case(tmp_path, digits, "awp", norm=True, batch_size=12)
    whole, resumed = ended(case, 2), ended(replace(case, resume="0.state"), 2)
    assert artifacts.read_state(tmp_path / "0.state", ("epoch",))["epoch"]["steps"] == 8
    for part in ("model", "kept"):
        assert all(torch.equal(value, resumed[part][name]) for name, value in whole[part].items())
    assert whole["history"] == resumed["history"]


def test_on_the_cpu_batch_norm_sees_the_share_of_each_process(
    tmp_path: Path, digits: Images
) -> None:
    """With two processes, a network with batch norm therefore gets different weights.

    The test calculates the first step by hand.
    """
    ended(Case(tmp_path, digits, "standard", norm=True, crop=0, images=40), 2)
    after_one = artifacts.read_state(tmp_path / "0.state", ("model",))
    batch = EpochState.begin(1, 40, generator(0, "training", torch.device("cpu"))).order

    def stepped(parts: Sequence[Tensor]) -> Tensor:
        """Return the first weight after a step along the mean gradient of the parts."""
        model = network(norm=True)
        weight = model.get_parameter("0.weight")
        losses = [
            F.cross_entropy(model(digits.take(part).floats()), digits.labels[part])
            for part in parts
        ]
        (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), weight)
        return weight - 0.1 * (gradient + 5e-4 * weight)

    found = after_one["model"]["0.weight"]
    torch.testing.assert_close(found, stepped(batch.tensor_split(2)))
    assert not torch.allclose(found, stepped([batch]), rtol=1e-4, atol=1e-5)


def test_the_command_starts_its_processes_itself(prepared_set: Path, tmp_path: Path) -> None:
    output, history = tmp_path / "base.safetensors", tmp_path / "training.csv"
    command = [
        *(
            sys.executable,
            "-m",
            "rift",
            "train",
            "--data",
            str(prepared_set),
            "--architecture",
            "resnet8",
        ),
        *(
            "--train.processes",
            "2",
            "--train.epochs",
            "2",
            "--attack.steps",
            "2",
            "--device",
            "cpu",
        ),
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


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        ({"WORLD_SIZE": "2"}, "alone"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}, "alone"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "PORT"},
            "refused: RANK=0, WORLD_SIZE=2, ",
        ),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "PORT"},
            "refused: RANK=1, WORLD_SIZE=2, ",
        ),
        (
            {"RANK": "one", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "PORT"},
            "refused: RANK=one, WORLD_SIZE=2, ",
        ),
    ],
)
def test_variables_of_a_job_script_neither_hang_nor_break_a_training(
    variables: dict[str, str], answer: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = (
        "from datetime import timedelta\nimport torch\nfrom rift.errors import RiftError\n"
        "from rift.training.parallel import ALONE, joined_group\n"
        "try:\n"
        "    with joined_group(torch.device('cpu'), timedelta(seconds=1)) as group:\n"
        "        print('alone' if group is ALONE else 'joined')\n"
        "except RiftError as error:\n"
        "    print('refused:', error)\n"
    )
    values = {name: port if value == "PORT" else value for name, value in variables.items()}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **values},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.startswith(answer), done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1
