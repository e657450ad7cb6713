"""States of interrupted stages: damaged ones, and the state before."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rift import artifacts
from rift.artifacts import Work, resumable
from rift.errors import RiftError, Stopped

SETTINGS = {"epochs": 3}


def saved(output: Path, *numbers: int) -> Path:
    """Save states one after the other, as a stage does that is then killed; return the last."""

    def work_until_killed(work: Work) -> None:
        for number in numbers:
            work.save({"number": number, "weights": torch.arange(1000.0)})
        raise InterruptedError

    with pytest.raises(InterruptedError), resumable(output, SETTINGS) as work:
        work_until_killed(work)
    return output.with_name(f"{output.name}.state")


def continued(output: Path) -> tuple[int | None, str]:
    """Return the number in the state that the next process continues from, and its messages."""
    told: list[str] = []
    with resumable(output, SETTINGS, tell=told.append) as work:
        number = None if work.state is None else work.state["number"]
    return number, "\n".join(told)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-900])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.write_bytes(b"")])
def test_after_damage_to_the_last_state_the_one_before_serves(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    output = tmp_path / "base.safetensors"
    state = saved(output, 1, 2, 3)
    damage(state)
    number, told = continued(output)
    assert number == 2
    assert f"warning: {state}: is damaged" in told
    assert f"continuing from the state before it, {state}.previous" in told
    assert list(tmp_path.iterdir()) == []


def test_if_both_states_are_damaged_the_stage_starts_again(tmp_path: Path) -> None:
    output = tmp_path / "base.safetensors"
    state = saved(output, 1, 2, 3)
    flip(state)
    cut(tmp_path / "base.safetensors.state.previous")
    number, told = continued(output)
    assert number is None
    assert told.endswith("no saved state is intact; starting from the beginning")
    assert told.count("is damaged") == 2


def test_a_process_killed_between_the_renames_leaves_the_state_before(tmp_path: Path) -> None:
    output = tmp_path / "base.safetensors"
    saved(output, 1, 2).unlink()
    assert continued(output) == (1, "")


def test_without_damage_the_last_state_serves_in_silence(tmp_path: Path) -> None:
    output = tmp_path / "base.safetensors"
    saved(output, 1, 2)
    assert continued(output) == (2, "")
    assert continued(output) == (None, "")


def test_the_state_before_is_also_refused_with_other_settings(tmp_path: Path) -> None:
    output = tmp_path / "base.safetensors"
    cut(saved(output, 1, 2))
    with (
        pytest.raises(RiftError, match=r"epochs \(was 3, now 4\)"),
        resumable(output, {"epochs": 4}),
    ):
        pass
    assert (tmp_path / "base.safetensors.state.previous").exists()


@pytest.mark.parametrize("place", [3, 30, 80, 90, 500, -700, -5])
def test_one_flipped_bit_in_a_state_is_found(place: int, tmp_path: Path) -> None:
    path = tmp_path / "a.state"
    artifacts.write_state(path, {"weights": torch.arange(1000.0)})
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)
    with pytest.raises(RiftError, match=r"a\.state: is damaged: its content does not match"):
        artifacts.read_state(path, ())


def test_a_state_without_a_digest_is_read(tmp_path: Path) -> None:
    """Versions before digests saved such states."""
    path = tmp_path / "a.state"
    torch.save({"number": 4}, path)
    assert artifacts.read_state(path, ("number",)) == {"number": 4}
    assert list(tmp_path.iterdir()) == [path]


def stopped_by(output: Path, *signals: int) -> list[str]:
    """Send signals to a stage, which then saves, and return what it did before it stopped."""
    done: list[str] = []
    with pytest.raises(Stopped), resumable(output, SETTINGS) as work:
        for number in signals:
            signal.raise_signal(number)
        done.append("batch")
        work.save({"number": 1})
        done.append("next batch")
    return done


def test_a_signal_that_is_sent_several_times_stops_the_stage_at_its_next_save(
    tmp_path: Path,
) -> None:
    """Slurm sends SIGTERM to a job and to each of its steps."""
    output = tmp_path / "base.safetensors"
    assert stopped_by(output, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM) == ["batch"]
    assert continued(output) == (1, "")


def test_a_second_ctrl_c_does_not_wait_for_a_save(tmp_path: Path) -> None:
    output = tmp_path / "base.safetensors"
    assert stopped_by(output, signal.SIGINT, signal.SIGINT) == []
    assert continued(output) == (None, "")
