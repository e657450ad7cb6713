"""Several processes transfer a network like a single one on the same batches."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rift import artifacts
from rift.config import Attack, Augment, MethodName, Transfer, TransferSettings, Twins
from rift.data.images import Images
from rift.training.history import TransferEpoch
from rift.training.parallel import ProcessGroup
from rift.transferring import MAIN, PROBE, transfer
from tests.training.test_parallel import Numbered, ended

HEAD = "head"
SPEED = ("seconds", "images_per_second")


def network(momentum: float | None) -> nn.Module:
    """Return a network with batch norm of a momentum, or without batch norm."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3))
    if momentum is not None:
        model.append(nn.BatchNorm2d(6, momentum=momentum))
    model.append(nn.Tanh()).append(nn.Flatten())
    model.add_module(HEAD, nn.Linear(6 * 36, 10))
    return model


@dataclass(frozen=True)
class Case:
    """A transfer with a linear probe, and the states that it then resumes from."""

    folder: Path
    digits: Images
    method: MethodName
    momentum: float | None
    accumulate: int = 1
    batch_size: int = 40
    resumes: tuple[int, ...] = ()

    def train(self, group: ProcessGroup) -> None:
        """Transfer; the first process writes every state and the result."""
        self._transfer(group, "end", None)
        for number in self.resumes:
            self._transfer(group, f"end-{number}", number)

    def _transfer(self, group: ProcessGroup, end: str, resume: int | None) -> None:
        settings = TransferSettings(
            transfer=Transfer(
                epochs=2,
                batch_size=self.batch_size,
                learning_rate=0.1,
                accumulate=self.accumulate,
                init_head="linear-probe",
                probe_epochs=1,
            ),
            attack=Attack(eps=0.1, step=0.05, steps=2),
            augment=Augment(crop=1, flip=False),
            twins=Twins(frozen_weight=0.5),
        )
        path = self.folder / f"{resume}.state"
        state = None if resume is None else artifacts.read_state(path, ())
        model = network(self.momentum)
        trained = transfer(
            model,
            self.digits.up_to(110),
            self.digits.take(slice(110, 170)),
            head=HEAD,
            method=self.method,
            settings=settings,
            seed=0,
            group=group,
            work=Numbered(self.folder, state, writes=group.is_main and resume is None),
        )
        if group.is_main:
            rows = [
                {
                    name: value
                    for name, value in vars(row).items()
                    if name not in SPEED and value is not None
                }
                for row in trained.history
                if isinstance(row, TransferEpoch)
            ]
            found = {"model": model.state_dict(), "kept": trained.state, "history": rows}
            artifacts.write_state(self.folder / end, found)


@pytest.mark.parametrize(("method", "momentum"), [("at", None), ("twins-at", 0.0)])
def test_two_processes_transfer_as_one_does(
    tmp_path: Path, digits: Images, method: MethodName, momentum: float | None
) -> None:
    """Each process normalises its share, and sends the first half of it through the frozen wing.

    For TWINS, the single process therefore takes every batch in two parts. Running statistics,
    which would move by the mean of both parts or by one after the other, stay.
    """
    both = Case(tmp_path, digits, method, momentum)
    alone = replace(both, accumulate=1 if momentum is None else 2)
    one, two = ended(alone, 1), ended(both, 2)
    for part in ("model", "kept"):
        assert one[part].keys() == two[part].keys()
        for name, value in one[part].items():
            if name.endswith("num_batches_tracked"):
                continue
            torch.testing.assert_close(two[part][name], value, rtol=1e-4, atol=1e-6)
    assert len(one["history"]) == 2
    for expected, found in zip(one["history"], two["history"], strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_transfer_in_two_processes_goes_on_exactly_where_it_was_killed(
    tmp_path: Path, digits: Images
) -> None:
    """In the probe and in what follows, they first save together after the eighth batch."""
    case = Case(tmp_path, digits, "twins-at", 0.1, batch_size=12, resumes=(0, 2))
    whole = ended(case, 2)
    for number, phase in ((0, PROBE), (2, MAIN)):
        state: dict[str, Any] = artifacts.read_state(tmp_path / f"{number}.state", ())
        assert state[phase]["epoch"]["steps"] == 8
        resumed = artifacts.read_state(tmp_path / f"end-{number}", ("model", "kept", "history"))
        for part in ("model", "kept"):
            assert all(
                torch.equal(value, resumed[part][name]) for name, value in whole[part].items()
            )
        assert whole["history"] == resumed["history"]
