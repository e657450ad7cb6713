import json
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from rift import artifacts
from rift.artifacts.files import reading
from rift.artifacts.resume import resumable
from rift.artifacts.states import write_state
from rift.errors import RiftError

SOURCE = artifacts.provenance("test", {"stage": "test", "epochs": 3}, seed=4, device="cpu")


def described(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the given provenance, without the digests that writing adds."""
    return {
        key: value
        for key, value in facts["provenance"].items()
        if key not in ("content", "checksum")
    }


@pytest.mark.parametrize(
    "metadata",
    ["3", "[1]", '{"sums": 3}', '{"provenance": [], "model": {}}', "{", '{"sums": null}'],
)
def test_metadata_of_another_type_is_refused(metadata: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"rift": metadata})
    for read in (artifacts.read_weights, artifacts.read_facts):
        with pytest.raises(RiftError, match="is damaged or not of the expected format"):
            read(path)


@pytest.mark.parametrize("state", [{"begun_with": 3, "run": {}}, {"begun_with": {}, "run": [1]}])
def test_a_state_of_another_type_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.safetensors.state")
    with (
        pytest.raises(RiftError, match=r"x\.safetensors\.state: is no state of a stage; delete"),
        resumable(tmp_path / "x.safetensors", {}),
    ):
        pass


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Limit the size of files to 50 kB, which stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_gives_one_line_and_no_half_file(tmp_path: Path) -> None:
    big = torch.arange(100_000.0)
    source = artifacts.provenance("test", {})
    random = np.random.default_rng(0).random(100_000)
    writers: dict[str, Callable[[Path], object]] = {
        "x.state": lambda path: write_state(path, {"big": big}),
        "x.safetensors": lambda path: artifacts.write_weights(path, {"big": big}, source),
        "x.npy": lambda path: artifacts.write_array(path, random),
        "x.npz": lambda path: artifacts.write_outcomes(path, {"x": random}, source),
        "x.json": lambda path: artifacts.write_json(path, {"x": "x" * 100_000}, source),
    }
    for name, write in writers.items():
        (tmp_path / name).write_bytes(b"before")
        with pytest.raises(RiftError, match=f"{name}: cannot be written: .*; choose another path"):
            write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(writers)


def test_too_little_memory_is_not_taken_for_damage(tmp_path: Path) -> None:
    def load() -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match="allocate memory"):
        reading(tmp_path / "x", load)


def test_a_name_that_is_too_long_is_refused_before_the_computation(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 236)
    with pytest.raises(RiftError, match="its name is longer than 235 bytes"):
        artifacts.check_writable(path)
    # The state of a stage and its temporary file have longer names.
    longest = tmp_path / ("x" * 235)
    artifacts.check_writable(longest)
    write_state(longest.with_name(f"{longest.name}.state"), {"x": 1})


def test_the_commit_is_that_of_the_package_and_not_of_a_repository_that_git_is_told(
    tmp_path: Path,
) -> None:
    for words in (["init"], ["commit", "--allow-empty", "--message", "other"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)
    program = "from rift import artifacts; print(artifacts.provenance('test', {})['commit'])"

    def commit(**variables: str) -> str:
        environment = {**os.environ, **variables}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    git = {"GIT_DIR": str(tmp_path / ".git"), "GIT_WORK_TREE": str(tmp_path)}
    assert commit(**git).removesuffix("-dirty") == commit().removesuffix("-dirty")


def test_a_changed_value_is_found_when_it_is_read(tmp_path: Path) -> None:
    weights, result, table = (tmp_path / name for name in ("a.safetensors", "a.json", "a.csv"))
    artifacts.write_weights(weights, {"w": torch.ones(100)}, SOURCE)
    artifacts.write_json(result, {"accuracy": 1.5}, SOURCE)
    artifacts.write_csv(table, pd.DataFrame({"alpha": [0.25], "accuracy": [81.46]}), SOURCE)
    content = bytearray(weights.read_bytes())
    content[-7] ^= 4
    weights.write_bytes(content)
    result.write_text(result.read_text().replace("1.5", "2.5"))
    table.write_text(table.read_text().replace("81.46", "91.46"))
    readers: dict[Path, Callable[[], object]] = {
        weights: lambda: artifacts.read_weights(weights),
        result: lambda: artifacts.read_json(result),
        table: lambda: artifacts.read_csv(table, ("alpha",)),
    }
    for path, read in readers.items():
        with pytest.raises(RiftError, match="is damaged: its content does not match its digest"):
            read()
        assert path.exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.json", "a.csv"])
def test_a_changed_fact_is_found_when_it_is_read(name: str, tmp_path: Path) -> None:
    """Settings, seeds and the mean of a network's first layer are facts, not content."""
    path, made = tmp_path / name, {**SOURCE, "seed": 12345}
    if path.suffix == ".safetensors":
        artifacts.write_weights(path, {"w": torch.ones(9)}, made, model={"mean": [0.4914]})
        old, new = b"0.4914", b"0.5914"
    else:
        old, new = b"12345", b"12245"
    artifacts.write_outcomes(tmp_path / "a.npz", {"pgd": np.ones(9, dtype=bool)}, made)
    artifacts.write_json(tmp_path / "a.json", {"accuracy": 1.5}, made)
    artifacts.write_csv(tmp_path / "a.csv", pd.DataFrame({"alpha": [0.25]}), made)
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            members = {entry: archive.read(entry) for entry in archive.namelist()}
        # numpy saves text in four bytes per letter. The archive gets valid checksums again.
        old, new = (each.decode().encode("utf-32-le") for each in (old, new))
        with zipfile.ZipFile(path, "w") as archive:
            for entry, content in members.items():
                archive.writestr(entry, content.replace(old, new))
    else:
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new))
    readers: dict[str, Callable[[], object]] = {
        ".safetensors": lambda: artifacts.read_weights(path),
        ".npz": lambda: artifacts.read_outcomes(path),
        ".json": lambda: artifacts.read_json(path),
        ".csv": lambda: artifacts.read_csv(path, ("alpha",)),
    }
    with pytest.raises(RiftError, match="is damaged: its content does not match its digest"):
        readers[path.suffix]()


def test_artifacts_give_back_what_was_written_with_its_provenance(tmp_path: Path) -> None:
    weights = {"conv1.weight": torch.randn(3, 2), "bn1.num_batches_tracked": torch.tensor(5)}
    artifacts.write_weights(tmp_path / "a.safetensors", weights, SOURCE, alpha=0.5)
    read, facts = artifacts.read_weights(tmp_path / "a.safetensors")
    assert all(torch.equal(read[name], value) for name, value in weights.items())
    assert facts["alpha"] == 0.5
    assert described(facts) == SOURCE

    table = pd.DataFrame({"alpha": [0.0, 0.1], "accuracy": [81.46, 83.44]})
    artifacts.write_csv(tmp_path / "a.csv", table, SOURCE)
    pd.testing.assert_frame_equal(artifacts.read_csv(tmp_path / "a.csv", ("alpha",)), table)
    line = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert described({"provenance": json.loads(line.removeprefix("# "))}) == {**SOURCE, "rows": 2}

    outcomes = {"pgd": np.array([True, False]), "fog": np.zeros((5, 2), dtype=bool)}
    artifacts.write_outcomes(tmp_path / "a.npz", outcomes, SOURCE)
    back = artifacts.read_outcomes(tmp_path / "a.npz")
    assert back.keys() == outcomes.keys()
    assert all(np.array_equal(back[name], outcomes[name]) for name in outcomes)

    artifacts.write_json(tmp_path / "a.json", {"accuracy": 1.5}, SOURCE)
    result = artifacts.read_json(tmp_path / "a.json")
    assert result["accuracy"] == 1.5
    assert described(result) == SOURCE


def test_names_of_modules_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    names = ["0", "1.10", "2.0"]
    artifacts.write_csv(tmp_path / "a.csv", pd.DataFrame({"module": names}), SOURCE)
    assert list(artifacts.read_csv(tmp_path / "a.csv", ("module",))["module"]) == names


def test_provenance_says_where_an_artifact_comes_from() -> None:
    assert SOURCE["seed"] == 4
    assert SOURCE["device"] == "cpu"
    assert SOURCE["torch"].startswith(torch.__version__.split("+")[0])
    assert (
        SOURCE["digest"] == artifacts.provenance("test", {"epochs": 3, "stage": "test"})["digest"]
    )
    assert (
        SOURCE["digest"] != artifacts.provenance("test", {"epochs": 4, "stage": "test"})["digest"]
    )


def test_equal_outcomes_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        artifacts.write_outcomes(tmp_path / name, {"pgd": np.ones(9, dtype=bool)}, SOURCE)
        # Time stamps in a zip archive have a resolution of two seconds.
        time.sleep(2.1)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.json", "a.csv"])
def test_truncated_artifacts_are_refused_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    artifacts.write_weights(tmp_path / "a.safetensors", {"w": torch.randn(100)}, SOURCE)
    artifacts.write_outcomes(tmp_path / "a.npz", {"pgd": np.ones(500, dtype=bool)}, SOURCE)
    artifacts.write_json(tmp_path / "a.json", {"accuracy": 1.5}, SOURCE)
    artifacts.write_csv(
        tmp_path / "a.csv", pd.DataFrame({"alpha": range(100), "accuracy": 0.5}), SOURCE
    )
    path.write_bytes(path.read_bytes()[:-40])
    readers: dict[str, Callable[[Path], object]] = {
        ".safetensors": artifacts.read_weights,
        ".npz": artifacts.read_outcomes,
        ".json": artifacts.read_json,
        ".csv": lambda path: artifacts.read_csv(path, ("alpha", "accuracy")),
    }
    with pytest.raises(
        RiftError,
        match=(
            r": (is damaged or not of the expected format"
            r"|is not complete: 100 rows were written)"
        ),
    ):
        readers[path.suffix](path)


def test_a_table_cut_within_a_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    artifacts.write_csv(
        path, pd.DataFrame({"alpha": [0.25, 0.5], "accuracy": [81.46, 83.44]}), SOURCE
    )
    path.write_text(path.read_text()[: -len(",83.44\n")])
    with pytest.raises(RiftError, match="is not complete"):
        artifacts.read_csv(path, ("alpha", "accuracy"))


def test_tables_without_rows_or_columns_are_refused(tmp_path: Path) -> None:
    artifacts.write_csv(tmp_path / "a.csv", pd.DataFrame({"alpha": []}), SOURCE)
    with pytest.raises(RiftError, match=r"a\.csv: is not complete: 0 rows"):
        artifacts.read_csv(tmp_path / "a.csv", ("alpha",))
    artifacts.write_csv(tmp_path / "a.csv", pd.DataFrame({"alpha": [1]}), SOURCE)
    with pytest.raises(RiftError, match=r"a\.csv: lacks the columns mrc"):
        artifacts.read_csv(tmp_path / "a.csv", ("alpha", "mrc"))


def test_what_is_missing_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        RiftError, match="does not exist; check the path, or run the stage that writes it"
    ):
        artifacts.read_json(tmp_path / "none.json")
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(RiftError, match=r"results/a\.json: cannot be written: "):
        artifacts.write_json(tmp_path / "results" / "a.json", {}, SOURCE)


def test_places_that_cannot_be_written_are_found_before_the_work(tmp_path: Path) -> None:
    artifacts.check_writable(tmp_path / "new" / "folders" / "a.json")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(
        RiftError, match=r"file/runs/a\.json: cannot be written: .*/file is not a folder"
    ):
        artifacts.check_writable(tmp_path / "file" / "runs" / "a.json")
    with pytest.raises(RiftError, match="it is a folder; choose another path"):
        artifacts.check_writable(tmp_path)


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    link, target = tmp_path / "a.txt", tmp_path / "scratch/b.txt"
    target.write_text("before")
    link.symlink_to(target)
    artifacts.check_writable(link)
    artifacts.write_text(link, "after")
    assert link.is_symlink()
    assert target.read_text() == "after"
    assert [entry.name for entry in target.parent.iterdir()] == ["b.txt"]


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (artifacts.check_writable, lambda path: artifacts.write_text(path, "text")):
        with pytest.raises(RiftError, match="pipe: cannot be written: it is a device, pipe or"):
            write(pipe)
    assert pipe.is_fifo()


def test_an_exception_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    artifacts.write_text(path, "before")
    with pytest.raises(ValueError, match="oops"), artifacts.replacing(path) as beside:
        beside.write_text("half")
        raise ValueError("oops")
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_process_killed_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    artifacts.write_text(path, "before")
    program = (
        "import time; from pathlib import Path; from rift.artifacts import replacing\n"
        f"with replacing(Path({str(path)!r})) as beside:\n"
        "    beside.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "before"
