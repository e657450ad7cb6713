"""Images that are larger than the memory: the same bytes and the same results from a file."""

import hashlib
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image
from torch import nn

from rift import artifacts, data
from rift.config import Corrupt, Data, Ood, Train, TrainingSettings
from rift.data.corruptions import files
from rift.errors import RiftError
from rift.evaluation.accuracy import correct
from rift.training.regimes import REGIMES
from rift.training.trainer import train

LIMIT = "RIFT_MEMORY_MIB"
SIDE, PER_CLASS = 128, 120


def folder_of_images(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cat"):
        (root / "pets" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "pets" / name / f"{number}.png")


def test_preparing_a_large_folder_needs_little_memory_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of_images(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = Data(root=str(tmp_path), side=SIDE, test=0.3)
    peaks, digests = {}, {}
    for limit in ("1000", "1"):
        monkeypatch.setenv(LIMIT, limit)
        path = tmp_path / limit / "prepared.safetensors"
        tracemalloc.start()
        prepared = data.prepare("image-folder:pets", settings)
        data.save(path, prepared, artifacts.provenance("test", {}))
        peaks[limit] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        digests[limit] = hashlib.sha256(path.read_bytes()).hexdigest()
        del prepared
    whole = 3 * PER_CLASS * 3 * SIDE**2
    assert peaks["1000"] > whole
    # One part of an image set is counted as 64-bit numbers at a time.
    assert peaks["1"] < 0.75 * whole
    assert digests["1"] == digests["1000"]
    # No temporary file is left.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "1000", "pets"]


def test_arrays_are_written_as_safetensors_writes_them(tmp_path: Path) -> None:
    kinds = "uint64 int64 float64 float32 uint32 int32 float16 uint16 int16 int8 uint8 bool"
    rng = np.random.default_rng(0)
    arrays = {
        f"{kind}-{rows}": (3 * rng.random((rows, 5))).astype(kind)
        for kind in reversed(kinds.split())
        for rows in (3, 0, 1)
    }
    path = tmp_path / "arrays.safetensors"
    artifacts.write_arrays(path, arrays, artifacts.provenance("test", {}), word="größer")
    with safetensors.safe_open(path, framework="numpy") as content:
        expected = safetensors.numpy.save(arrays, metadata=content.metadata())
    assert path.read_bytes() == expected


def test_training_and_evaluation_give_the_same_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prepared.safetensors"
    data.save(path, data.prepare("digits", Data()), artifacts.provenance("test", {}))
    found = []
    for limit in ("1", "0"):
        monkeypatch.setenv(LIMIT, limit)
        prepared = data.load(path)
        assert isinstance(prepared.images["train"], np.memmap) == (limit == "0")
        images = {name: prepared.split(name) for name in ("train", "validation", "test")}
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        settings = TrainingSettings(train=Train(epochs=1, learning_rate=0.5))
        few = images["train"].first(200, "images")
        trained = train(
            model, few, images["validation"], regime=REGIMES["pgd"], settings=settings, seed=0
        )
        split = files.corrupted_test_split(prepared, "contrast", Corrupt(), tmp_path)
        file = tmp_path / limit / "contrast.npy"
        files.save(file, split, prepared.labels["test"], artifacts.provenance("test", {}))
        corrupted = files.severities_of(file, prepared, Ood(), data="digits", device="cpu")
        evaluated = [images["test"], *corrupted.severities.values()]
        found.append((trained.state["1.weight"], [correct(model, each) for each in evaluated]))
    (weights, outcomes), (streamed_weights, streamed_outcomes) = found
    assert torch.equal(weights, streamed_weights)
    for expected, outcome in zip(outcomes, streamed_outcomes, strict=True):
        assert torch.equal(expected, outcome)


PROGRAM = """
import os, sys, threading, time
from pathlib import Path
import torch
from torch import nn
from rift import data
from rift.config import Attack, Transfer, TransferSettings
from rift.data.images import Images
from rift.evaluation.accuracy import correct
from rift.transferring import transfer

def run(train, validation):
    model = nn.Sequential(nn.Conv2d(3, 2, 3, 8), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 2))
    settings = TransferSettings(transfer=Transfer(epochs=1), attack=Attack(steps=1))
    transfer(model, train.up_to(512), validation, head="3", method="twins-at", settings=settings,
             seed=0)
    return len(correct(model, train))

def used():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024

def watch():
    global peak
    while True:
        peak = max(peak, used())
        time.sleep(0.01)

torch.set_num_threads(1)
few = Images.of(torch.zeros(1000, 3, 32, 32), torch.arange(1000) % 2)
run(few, few.up_to(50))  # what torch itself needs, and that of a batch
before = peak = used()
threading.Thread(target=watch, daemon=True).start()
for limit in ("10", "1000"):
    os.environ["RIFT_MEMORY_MIB"], peak = limit, 0
    prepared = data.load(Path(sys.argv[1]), ("train", "validation"))
    run(prepared.split("train"), prepared.split("validation"))
    print(peak - before)
"""


def test_transfer_and_evaluation_of_a_large_set_need_little_memory(tmp_path: Path) -> None:
    """Memory that is not a map of a file is measured, above what torch and a batch need."""
    count, side = 64_000, 32
    pixels = np.zeros((count, 3, side, side), dtype=np.uint8)
    labels = np.arange(count) % 2
    small = dict.fromkeys(("validation", "test"), (pixels[:50], labels[:50]))
    splits = {"train": (pixels, labels), **small}
    prepared = data.Prepared(
        {name: images for name, (images, _) in splits.items()},
        {name: own for name, (_, own) in splits.items()},
        ("ant", "bee"),
        (0.5, 0.5, 0.5),
        (0.25, 0.25, 0.25),
        {},
    )
    path = tmp_path / "prepared.safetensors"
    data.save(path, prepared, artifacts.provenance("test", {}))
    # The buffers of a batch go back to the system at once, so that they leave no gaps.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    streamed, in_memory = map(int, done.stdout.split())
    assert in_memory > pixels.nbytes
    assert streamed < pixels.nbytes / 2


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "2 GiB")
    with pytest.raises(RiftError, match=r"\$RIFT_MEMORY_MIB: is 2 GiB; set it to a number of MiB"):
        data.prepare("digits-0-4", Data())
