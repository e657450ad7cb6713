"""GPUs of one machine, dealt to jobs: a pretended number, on any machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rift.commands.dealing import dealt_gpus
from rift.errors import RiftError

JOB = """
import os, sys, time
from pathlib import Path
from rift.commands.dealing import dealt_gpus

with dealt_gpus(int(sys.argv[1])):
    Path(sys.argv[2]).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    while not Path("end").exists():
        time.sleep(0.02)
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has three GPUs, which no other job uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("RIFT_GPUS", "3")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def started(count: int, name: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", JOB, str(count), name])


def dealt(name: str, seconds: float = 30) -> set[str] | None:
    """Return the GPUs that a job got; None if it still waits after some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if Path(name).exists() and (text := Path(name).read_text()):
            return set(text.split(","))
        time.sleep(0.02)
    return None


def test_jobs_get_gpus_of_their_own_and_wait_for_others() -> None:
    jobs = [started(1, "a"), started(2, "b")]
    one, two = dealt("a"), dealt("b")
    assert one is not None
    assert two is not None
    assert (len(one), len(two)) == (1, 2)
    assert one | two == {"0", "1", "2"}
    third = started(2, "c")
    assert dealt("c", 1.5) is None
    # A killed process holds nothing any more.
    jobs[1].send_signal(signal.SIGKILL)
    assert dealt("c") == two
    Path("end").touch()
    assert [job.wait(30) for job in (jobs[0], third)] == [0, 0]


def test_only_gpus_that_the_workflow_may_use_are_dealt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,MIG-GPU-8f/1/0,5,7")
    with dealt_gpus(2):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,MIG-GPU-8f/1/0"
        with dealt_gpus(0):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,MIG-GPU-8f/1/0"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,MIG-GPU-8f/1/0,5,7"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    with pytest.raises(RiftError, match=r"3 GPUs are dealt .* shows 2; lower the resource gpu"):
        dealt_gpus(1).__enter__()


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_that_are_hidden_are_not_dealt(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with dealt_gpus(1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == hidden


def test_nothing_is_dealt_unless_the_workflow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIFT_GPUS")
    with dealt_gpus(1):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("RIFT_GPUS", "many")
    with pytest.raises(RiftError, match="RIFT_GPUS=many: must be the number of GPUs"):
        dealt_gpus(1).__enter__()
