"""Corrupted test splits: published ones in their layouts, generated ones in the same, and what does not belong together."""

import hashlib
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rift import data
from rift.artifacts import Array, provenance
from rift.compatibility import prepare_robustbench
from rift.config import Corrupt
from rift.data import corrupted
from rift.data.corruptions import corrupt
from rift.data.published import arrays, folders
from rift.data.source import Archive
from rift.errors import RiftError

ARCHIVE = Archive("digits-C", "http://127.0.0.1:1/digits-C.tar", "0" * 32)


@pytest.fixture
def published(prepared: data.Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with a published corrupted copy of the digits: the image with its severity in the first pixel."""
    count = len(prepared.labels["test"])
    images = np.tile(np.moveaxis(prepared.images["test"], 1, -1), (5, 1, 1, 1))
    images[:, 0, 0, 0] = np.repeat(np.arange(1, 6), count)
    write(tmp_path, images, np.tile(prepared.labels["test"], 5), monkeypatch)
    return tmp_path


def write(root: Path, images: Array, labels: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / ARCHIVE.folder
    folder.mkdir(exist_ok=True)
    sums: dict[str, str] = {}
    for name, array in (("fog", images), ("labels", labels)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        (folder / f"{name}.npy").write_bytes(buffer.getvalue())
        sums[name] = hashlib.md5(buffer.getvalue(), usedforsecurity=False).hexdigest()
    known = replace(data.DATASETS["digits"], corrupted=arrays(ARCHIVE, sums))
    monkeypatch.setitem(data.DATASETS, "digits", known)


def split(prepared: data.Prepared, root: Path, **settings: object) -> corrupted.CorruptedSplit:
    return corrupted.corrupted_test_split(prepared, "fog", Corrupt.model_validate(settings), root)


def test_a_published_set_is_read_where_it_lies(prepared: data.Prepared, published: Path) -> None:
    for source in ("auto", "published"):
        read = split(prepared, published, source=source, images=50)
        assert (read.source, read.images.shape) == ("published", (5, 50, 8, 8, 1))
        assert read.images[:, :, 0, 0, 0].tolist() == [[severity] * 50 for severity in range(1, 6)]
        assert np.array_equal(read.labels, prepared.labels["test"][:50])
        assert np.array_equal(read.images[2, :, 4], np.moveaxis(prepared.images["test"][:50], 1, -1)[:, 4])


def test_a_set_is_generated_if_asked_for_or_if_none_lies_there(prepared: data.Prepared, published: Path) -> None:
    wanted = np.moveaxis(corrupt(prepared.images["test"], "fog", 0), 2, -1)
    asked = split(prepared, published, source="generated")
    shutil.rmtree(published / ARCHIVE.folder)
    absent = split(prepared, published, source="auto")
    for generated in (asked, absent):
        assert generated.source == "generated"
        assert np.array_equal(generated.images, wanted)
        assert np.array_equal(generated.labels, prepared.labels["test"])
    with pytest.raises(RiftError, match=r"digits-C\.tar: is missing and could not be downloaded"):
        split(prepared, published, source="published")


def test_a_published_set_of_other_images_is_refused(
    prepared: data.Prepared, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.load(published / ARCHIVE.folder / "fog.npy")
    labels = np.load(published / ARCHIVE.folder / "labels.npy")
    other_labels = labels.copy()
    other_labels[0] = (other_labels[0] + 1) % 10
    cases = [
        (images, labels[:-3], r"fog\.npy: holds .* but labels\.npy beside it \d+ labels"),
        (images[:-5], labels, r"fog\.npy: holds .* but labels\.npy beside it"),
        (images.astype(np.float32), labels, r"fog\.npy: holds .* float32 values"),
        (images, other_labels, r"labels\.npy: holds different labels at different severities"),
        (
            images[:, :4],
            labels,
            r"digits-C: is not the corrupted copy of this test split: .* wanted are \d+ of \(8, 8, 1\)",
        ),
        (images, np.zeros_like(labels), r"digits-C: is not the corrupted copy of this test split"),
    ]
    for wrong_images, wrong_labels, message in cases:
        write(published, wrong_images, wrong_labels, monkeypatch)
        with pytest.raises(RiftError, match=message):
            split(prepared, published)


def test_a_flipped_byte_in_a_published_set_is_refused(prepared: data.Prepared, published: Path) -> None:
    path = published / ARCHIVE.folder / "fog.npy"
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(content)
    with pytest.raises(RiftError, match=r"fog\.npy: is not the published file"):
        split(prepared, published)


def test_class_folders_are_read_by_class_and_number(tmp_path: Path) -> None:
    archives = Archive("Some-C", "x/a.tar", ""), Archive("Some-C-extra", "x/b.tar", "")
    for place in ("Some-C/fog", "Some-C-extra/inside/snow"):
        for severity in range(1, 6):
            for label, name in enumerate(("n1", "n2")):
                folder = tmp_path / place / str(severity) / name
                folder.mkdir(parents=True)
                for number in (2, 10, 1):
                    grey = 100 * label + 10 * severity + number
                    Image.new("RGB", (64, 64), (grey, grey, grey)).save(folder / f"test_{number}.JPEG", quality=100)
    read = folders(*archives).read
    for name in ("fog", "snow"):
        images, labels = read(tmp_path, name, ("n1", "n2"))
        assert labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert images.shape == (5, 6, 64, 64, 3)
        wanted = [[100 * label + 10 * s + number for label in (0, 1) for number in (1, 2, 10)] for s in range(1, 6)]
        assert np.abs(images[:, :, 9, 9, 1].astype(int) - wanted).max() <= 1
    with pytest.raises(RiftError, match=r"Some-C/frost: is missing; it is part of x/a\.tar or x/b\.tar"):
        read(tmp_path, "frost", ("n1", "n2"))
    with pytest.raises(RiftError, match=r"fog/1/n3: holds no image"):
        read(tmp_path, "fog", ("n1", "n2", "n3"))
    (tmp_path / "Some-C/fog/4/n2/test_2.JPEG").unlink()
    with pytest.raises(RiftError, match=r"fog/4: holds other images than .*fog/1"):
        read(tmp_path, "fog", ("n1", "n2"))


def test_what_is_written_is_read_back_and_a_part_of_it_refused(prepared: data.Prepared, tmp_path: Path) -> None:
    path = tmp_path / "fog.npy"
    written = split(prepared, tmp_path, images=20)
    corrupted.save(path, written, provenance({}))
    read = corrupted.load(path)
    assert (read.corruption, read.source) == ("fog", "generated")
    assert np.array_equal(read.images, written.images)
    assert np.array_equal(read.labels, written.labels)

    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(RiftError, match=r"fog\.npy: is damaged"):
        corrupted.load(path)
    path.write_bytes(whole)
    np.save(tmp_path / "labels.npy", np.zeros(95, dtype=np.int64))
    with pytest.raises(RiftError, match=r"fog\.npy: holds .* but labels\.npy beside it 95 labels"):
        corrupted.load(path)
    (tmp_path / "labels.npy").unlink()
    with pytest.raises(RiftError, match=r"labels\.npy: does not exist"):
        corrupted.load(path)


def test_robustbench_reads_what_is_written(tmp_path: Path) -> None:
    prepare_robustbench()
    from robustbench.data import load_corruptions_cifar
    from robustbench.model_zoo.enums import BenchmarkDataset

    rng = np.random.default_rng(0)
    images = np.zeros((5, 10_000, 32, 32, 3), dtype=np.uint8)
    images[:, :40] = rng.integers(0, 256, (5, 40, 32, 32, 3))
    labels = rng.integers(0, 10, 10_000)
    split = corrupted.CorruptedSplit("fog", images, labels, "generated")
    corrupted.save(tmp_path / "CIFAR-10-C" / "fog.npy", split, provenance({}))
    for severity in (1, 4):
        x, y = load_corruptions_cifar(BenchmarkDataset.cifar_10, 40, severity, str(tmp_path), ["fog"])
        assert np.array_equal(y.numpy(), labels[:40])
        assert np.allclose(x.numpy(), images[severity - 1, :40].transpose(0, 3, 1, 2) / 255, atol=1e-6)
