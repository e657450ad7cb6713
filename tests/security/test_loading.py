"""Nothing that is loaded runs code, whatever its format.

Elsewhere: weight files (``tests/models/test_weight_files.py``), CIFAR's pickles, archives and
downloads (``tests/data/test_datasets.py``), and architectures of users
(``tests/models/test_outside.py``).
"""

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rift import artifacts, config, data
from rift.config import Data
from rift.errors import RiftError
from tests.workflow.running import SMALL, Workflow


class Malicious:
    """An object whose unpickling creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def objects(marker: Path) -> artifacts.Array:
    return np.array([Malicious(marker)], dtype=object)


def write_npz(path: Path, marker: Path) -> None:
    np.savez(
        path, standard=objects(marker), provenance=np.array("{}"), train_images=objects(marker)
    )


def write_provenance_of_objects(path: Path, marker: Path) -> None:
    np.savez(path, standard=np.ones(2, dtype=bool), provenance=objects(marker))


def write_npy(path: Path, marker: Path) -> None:
    np.save(path, objects(marker))
    source = artifacts.provenance("corrupt", {})
    artifacts.write_json(path.with_suffix(".json"), {"severities": ["0"]}, source)


def write_state(path: Path, marker: Path) -> None:
    """Write a state whose digest fits: a digest is no signature."""
    buffer = io.BytesIO()
    torch.save({"begun_with": {}, "run": Malicious(marker)}, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    path.write_bytes(b"rift state, sha256 " + digest + b"\n" + buffer.getvalue())


def write_pickle(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Malicious(marker)))


@pytest.mark.parametrize(
    ("name", "write", "read"),
    [
        ("a.npz", write_npz, artifacts.read_outcomes),
        ("a.npz", write_provenance_of_objects, artifacts.read_origin),
        ("a.npz", write_provenance_of_objects, artifacts.checked_provenance),
        ("a.npy", write_npy, artifacts.read_array),
        ("a.npy", write_npy, artifacts.checked_provenance),
        ("a.state", write_state, lambda path: artifacts.read_state(path, ())),
        ("a.safetensors", write_pickle, artifacts.read_weights),
        ("a.npz", write_pickle, artifacts.read_outcomes),
        ("a.npy", write_pickle, artifacts.read_array),
        ("a.csv", write_pickle, lambda path: artifacts.read_csv(path, ())),
        ("a.json", write_pickle, artifacts.read_json),
    ],
)
def test_an_artifact_with_code_is_refused_and_not_run(
    name: str, write: Callable[[Path, Path], None], read: Callable[[Path], object], tmp_path: Path
) -> None:
    marker = tmp_path / "was-run"
    write(tmp_path / name, marker)
    with pytest.raises(RiftError, match=f"{name}: is damaged"):
        read(tmp_path / name)
    assert not marker.exists()


def test_a_digest_of_a_file_with_code_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    write_provenance_of_objects(tmp_path / "a.npz", marker)
    expected = hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    assert artifacts.content_digest(tmp_path / "a.npz") == expected
    assert not marker.exists()


def test_a_data_set_of_objects_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    write_npz(tmp_path / "mine.npz", marker)
    with pytest.raises(RiftError, match=r"mine\.npz: "):
        data.prepare("arrays:mine", Data(root=str(tmp_path)))
    assert not marker.exists()


TAGS = [
    "!!python/object/apply:os.system ['touch was-run']",
    "!!python/object/new:subprocess.Popen [['touch', 'was-run']]",
    "!!python/name:os.system",
    "!!python/module:antigravity",
]


@pytest.mark.parametrize("tag", TAGS)
def test_tags_of_yaml_make_no_objects(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(f"experiment: {tag}\n")
    with pytest.raises(RiftError, match="is not valid YAML"):
        config.read(path)
    assert not (tmp_path / "was-run").exists()


def test_tags_of_yaml_make_no_objects_in_the_workflow(repository: Path, tmp_path: Path) -> None:
    """Snakemake reads the file before rift does."""
    workflow = Workflow(repository, tmp_path)
    (tmp_path / "hostile.yaml").write_text(f"{json.dumps(SMALL)[:-1]}, x: {TAGS[0]}}}")
    answer = workflow(SMALL, "--configfile", str(tmp_path / "hostile.yaml"), "--dry-run")
    assert answer.returncode == 1
    assert "Config file is not valid JSON or YAML" in answer.stdout + answer.stderr
    assert not (tmp_path / "was-run").exists()
