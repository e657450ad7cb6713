"""Finished outputs that a killed workflow removed are adopted by the same command."""

import fcntl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from rift import artifacts
from rift.commands import main
from rift.commands.command import Command, Seed
from rift.commands.roles import Output
from rift.errors import RiftError


class Long(Command):
    """A long stage, which counts how often it computed."""

    stage = "long"
    adoptable = True
    commit: ClassVar[str] = ""

    seed: Seed = 0
    epochs: int = 1
    count: Path
    output: Output[Path]
    history: Output[Path]

    def settings_for_provenance(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def provenance(self, device: torch.device | None = None) -> artifacts.Provenance:
        return {**super().provenance(device), "commit": self.commit}

    def run(self) -> None:
        with self.count.open("a") as file:
            file.write("x")
        source = self.provenance()
        artifacts.write_arrays(self.output, {"weight": np.full(9, self.epochs, "f4")}, source)
        artifacts.write_json(self.history, {"epochs": self.epochs}, source)


@pytest.fixture(autouse=True)
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a workflow, as from a checkout without changes."""
    monkeypatch.setenv("RIFT_KEEP_FINISHED", "1")
    monkeypatch.setattr(Long, "commit", "0123456789abcdef")


def long(folder: Path, **settings: Any) -> Long:
    names = {"count": folder / "count", "output": folder / "a.safetensors"}
    return Long(**names, history=folder / "a.json", **settings)


def removed(folder: Path, **settings: Any) -> list[Path]:
    """Run the stage, and remove its outputs, as a workflow does with those of a killed job."""
    command = long(folder, **settings)
    main.run(command)
    outputs = [command.output, command.history]
    for path in outputs:
        path.unlink()
    return outputs


def test_removed_outputs_are_adopted_without_computing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run(long(tmp_path))
    before = [path.read_bytes() for path in (tmp_path / "a.safetensors", tmp_path / "a.json")]
    outputs = removed(tmp_path)
    main.run(long(tmp_path))
    assert (tmp_path / "count").read_text() == "xx"
    assert [path.read_bytes() for path in outputs] == before
    assert "already finished with the same settings and inputs: adopted" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"epochs": 2}, {"seed": 1}], ids=["setting", "seed"])
def test_other_settings_are_computed(settings: dict[str, Any], tmp_path: Path) -> None:
    removed(tmp_path)
    main.run(long(tmp_path, **settings))
    assert (tmp_path / "count").read_text() == "xx"
    _, facts = artifacts.read_arrays(tmp_path / "a.safetensors", ())
    assert facts["provenance"]["settings"] == {"epochs": settings.get("epochs", 1)}


def test_damaged_outputs_are_not_adopted(tmp_path: Path) -> None:
    removed(tmp_path)
    second = artifacts.finished_name(tmp_path / "a.safetensors")
    content = bytearray(second.read_bytes())
    content[-7] ^= 4
    second.write_bytes(content)
    main.run(long(tmp_path))
    assert (tmp_path / "count").read_text() == "xx"
    artifacts.read_arrays(tmp_path / "a.safetensors", ())


def test_a_checkout_with_changes_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Long, "commit", "0123456789abcdef-dirty")
    removed(tmp_path)
    main.run(long(tmp_path))
    assert (tmp_path / "count").read_text() == "xx"


class Failing(Long):
    """A stage whose input may be damaged."""

    adoptable = False
    rescues = True
    damaged: bool = False

    def run(self) -> None:
        if self.damaged:
            raise RiftError("data_batch_1: is damaged")
        super().run()


def test_outputs_before_the_input_was_damaged_are_kept_and_named(tmp_path: Path) -> None:
    fields = long(tmp_path).model_dump()
    main.run(Failing(**fields))
    outputs = [tmp_path / "a.safetensors", tmp_path / "a.json"]
    for path in outputs:
        path.unlink()
    with pytest.raises(
        RiftError, match=r"is damaged\n  the outputs before are kept; .* to .*a\.json"
    ):
        main.run(Failing(**fields, damaged=True))
    assert not any(path.exists() for path in outputs)
    assert all(artifacts.finished_name(path).exists() for path in outputs)
    # Whole input is read again, and nothing is adopted.
    main.run(Failing(**fields))
    assert (tmp_path / "count").read_text() == "xx"


def test_outside_of_a_workflow_there_are_no_second_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RIFT_KEEP_FINISHED")
    main.run(long(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.safetensors", "count"]


def test_outputs_that_exist_are_computed_again(tmp_path: Path) -> None:
    main.run(long(tmp_path))
    main.run(long(tmp_path))
    assert (tmp_path / "count").read_text() == "xx"


def test_outputs_that_another_process_finishes_meanwhile_are_adopted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = long(tmp_path)
    lock = tmp_path / "a.safetensors.lock"
    with ThreadPoolExecutor() as pool:
        with lock.open("ab") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            waiting = pool.submit(main.run, long(tmp_path))
            told = ""
            while "another process is working on it; waiting for its end" not in told:
                assert not waiting.done()
                told += capsys.readouterr().err
            other.run()
        waiting.result()
    assert (tmp_path / "count").read_text() == "x"


def test_a_process_that_waited_in_vain_computes(tmp_path: Path) -> None:
    lock = tmp_path / "a.safetensors.lock"
    with ThreadPoolExecutor() as pool:
        with lock.open("ab") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            waiting = pool.submit(main.run, long(tmp_path))
            time.sleep(0.2)
            assert not (tmp_path / "count").exists()
        waiting.result()
    assert (tmp_path / "count").read_text() == "x"


class Overtaken(Long):
    """A stage that another process overtakes between the wait for the lock and its own lock."""

    def run(self) -> None:
        if not self.output.exists():
            super().run()
            raise artifacts.LockedError("a.safetensors.lock: another process is working")
        super().run()


def test_a_process_that_is_overtaken_waits_again_and_adopts(tmp_path: Path) -> None:
    main.run(Overtaken(**long(tmp_path).model_dump()))
    assert (tmp_path / "count").read_text() == "x"


def test_outside_of_a_workflow_a_lock_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RIFT_KEEP_FINISHED")
    with pytest.raises(RiftError, match="another process is working"):
        main.run(Overtaken(**long(tmp_path).model_dump()))
