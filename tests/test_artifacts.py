import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rift import artifacts
from rift.errors import RiftError

SOURCE = artifacts.provenance({"stage": "test", "epochs": 3}, seed=4, device="cpu")


def test_artifacts_give_back_what_was_written_with_its_provenance(tmp_path: Path) -> None:
    weights = {"conv1.weight": torch.randn(3, 2), "bn1.num_batches_tracked": torch.tensor(5)}
    artifacts.write_weights(tmp_path / "a.safetensors", weights, SOURCE, alpha=0.5)
    read, facts = artifacts.read_weights(tmp_path / "a.safetensors")
    assert all(torch.equal(read[name], value) for name, value in weights.items())
    assert facts == {"alpha": 0.5, "provenance": SOURCE}

    table = pd.DataFrame({"alpha": [0.0, 0.1], "accuracy": [81.46, 83.44]})
    artifacts.write_csv(tmp_path / "a.csv", table, SOURCE)
    pd.testing.assert_frame_equal(artifacts.read_csv(tmp_path / "a.csv", ("alpha",)), table)
    assert json.loads((tmp_path / "a.csv").read_text().splitlines()[0].removeprefix("# ")) == SOURCE

    outcomes = {"pgd": np.array([True, False]), "fog": np.zeros((5, 2), dtype=bool)}
    artifacts.write_outcomes(tmp_path / "a.npz", outcomes, SOURCE)
    back = artifacts.read_outcomes(tmp_path / "a.npz")
    assert back.keys() == outcomes.keys()
    assert all(np.array_equal(back[name], outcomes[name]) for name in outcomes)

    artifacts.write_json(tmp_path / "a.json", {"accuracy": 1.5}, SOURCE)
    assert artifacts.read_json(tmp_path / "a.json") == {"accuracy": 1.5, "provenance": SOURCE}


def test_provenance_says_where_an_artifact_comes_from() -> None:
    assert SOURCE["seed"] == 4
    assert SOURCE["device"] == "cpu"
    assert SOURCE["torch"].startswith(torch.__version__.split("+")[0])
    assert SOURCE["digest"] == artifacts.provenance({"epochs": 3, "stage": "test"})["digest"]
    assert SOURCE["digest"] != artifacts.provenance({"epochs": 4, "stage": "test"})["digest"]


def test_equal_outcomes_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        artifacts.write_outcomes(tmp_path / name, {"pgd": np.ones(9, dtype=bool)}, SOURCE)
        time.sleep(2.1)  # the resolution of a time stamp in a zip archive
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.json"])
def test_truncated_artifacts_are_refused_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    artifacts.write_weights(tmp_path / "a.safetensors", {"w": torch.randn(100)}, SOURCE)
    artifacts.write_outcomes(tmp_path / "a.npz", {"pgd": np.ones(500, dtype=bool)}, SOURCE)
    artifacts.write_json(tmp_path / "a.json", {"accuracy": 1.5}, SOURCE)
    path.write_bytes(path.read_bytes()[:-40])
    reader = {".safetensors": artifacts.read_weights, ".npz": artifacts.read_outcomes, ".json": artifacts.read_json}
    with pytest.raises(RiftError) as caught:
        reader[path.suffix](path)
    assert str(caught.value).startswith(f"{path}: is damaged or not of the expected format")


def test_tables_without_rows_or_columns_are_refused(tmp_path: Path) -> None:
    artifacts.write_csv(tmp_path / "a.csv", pd.DataFrame({"alpha": []}), SOURCE)
    with pytest.raises(RiftError, match=r"a\.csv: has no rows"):
        artifacts.read_csv(tmp_path / "a.csv", ("alpha",))
    artifacts.write_csv(tmp_path / "a.csv", pd.DataFrame({"alpha": [1]}), SOURCE)
    with pytest.raises(RiftError, match=r"a\.csv: lacks the columns mrc"):
        artifacts.read_csv(tmp_path / "a.csv", ("alpha", "mrc"))


def test_what_is_missing_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RiftError, match="does not exist; run the stage that writes it first"):
        artifacts.read_json(tmp_path / "none.json")
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(RiftError, match=r"results/a\.json: cannot be written: "):
        artifacts.write_json(tmp_path / "results" / "a.json", {}, SOURCE)


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
