"""Corrupted test splits: published and generated ones, and files that do not match."""

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
from rift.config import Corrupt, Ood
from rift.data.corruptions import files
from rift.data.corruptions.corrupting import corrupt
from rift.data.corruptions.published import arrays, folders
from rift.data.sources import DATASETS
from rift.data.sources.source import Archive
from rift.errors import RiftError
from rift.thirdparty import prepare_robustbench

ARCHIVE = Archive("digits-C", "http://127.0.0.1:1/digits-C.tar", "0" * 32)


@pytest.fixture
def published(prepared: data.Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a data root with a published corrupted copy of the digits.

    The first pixel of each image contains the severity.
    """
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
    known = replace(DATASETS["digits"], corrupted=arrays(ARCHIVE, sums))
    monkeypatch.setitem(DATASETS, "digits", known)


def split(prepared: data.Prepared, root: Path, **settings: object) -> files.CorruptedSplit:
    return files.corrupted_test_split(prepared, "fog", Corrupt.model_validate(settings), root)


def test_a_published_set_is_read_where_it_lies(prepared: data.Prepared, published: Path) -> None:
    for source in ("auto", "published"):
        read = split(prepared, published, source=source, images=50)
        assert (read.source, read.images.shape) == ("published", (5, 50, 8, 8, 1))
        assert read.images[:, :, 0, 0, 0].tolist() == [[severity] * 50 for severity in range(1, 6)]
        assert np.array_equal(
            read.images[2, :, 4], np.moveaxis(prepared.images["test"][:50], 1, -1)[:, 4]
        )


def test_a_published_set_serves_a_range_of_classes(
    prepared: data.Prepared, published: Path
) -> None:
    labels = prepared.labels["test"]
    inside = labels >= 5
    part = replace(
        prepared,
        images={"test": prepared.images["test"][inside]},
        labels={"test": labels[inside] - 5},
        classes=prepared.classes[5:],
        facts={"dataset": "digits-5-9"},
    )
    read = split(part, published, source="published")
    assert read.images.shape == (5, inside.sum(), 8, 8, 1)
    assert np.array_equal(read.images[4, :, 4], np.moveaxis(part.images["test"], 1, -1)[:, 4])


def test_a_set_is_generated_if_asked_for_or_if_none_lies_there(
    prepared: data.Prepared, published: Path
) -> None:
    wanted = np.moveaxis(corrupt(prepared.images["test"], "fog", 0), 2, -1)
    asked = split(prepared, published, source="generated")
    shutil.rmtree(published / ARCHIVE.folder)
    absent = split(prepared, published, source="auto")
    for generated in (asked, absent):
        assert generated.source == "generated"
        assert np.array_equal(generated.images, wanted)
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
        (images, labels[:-3], r"fog\.npy: contains .* but labels\.npy contains \d+ labels"),
        (images[:-5], labels, r"fog\.npy: contains .* but labels\.npy"),
        (images.astype(np.float32), labels, r"fog\.npy: contains .* float32 values"),
        (images, other_labels, r"labels\.npy: contains different labels at different severities"),
        (
            images[:, :4],
            labels,
            r"fog\.npy: does not belong to this test split: .* are \d+ of shape \(8, 8, 1\)",
        ),
        (images, np.zeros_like(labels), r"fog\.npy: does not belong to this test split"),
    ]
    for wrong_images, wrong_labels, message in cases:
        write(published, wrong_images, wrong_labels, monkeypatch)
        with pytest.raises(RiftError, match=message):
            split(prepared, published)


def test_a_flipped_byte_in_a_published_set_is_refused(
    prepared: data.Prepared, published: Path
) -> None:
    path = published / ARCHIVE.folder / "fog.npy"
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(content)
    with pytest.raises(RiftError, match=r"fog\.npy: is not the published file"):
        split(prepared, published)


def test_a_published_set_that_lies_by_class_gets_the_order_of_the_test_split(
    prepared: data.Prepared, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = prepared.labels["test"]
    order = np.argsort(labels, kind="stable")
    images = np.tile(np.moveaxis(prepared.images["test"][order], 1, -1), (5, 1, 1, 1))
    write(published, images, np.tile(labels[order], 5), monkeypatch)
    read = split(prepared, published, images=40)
    # The n-th image of a class has the same position as in the test split.
    assert np.array_equal(read.images[3], np.moveaxis(prepared.images["test"][:40], 1, -1))


def test_more_images_than_there_are_is_refused(prepared: data.Prepared, published: Path) -> None:
    for source in ("published", "generated"):
        with pytest.raises(
            RiftError, match=r"corrupt\.images: is 360, but the test split has 359 images"
        ):
            split(prepared, published, source=source, images=360)


def test_class_folders_are_read_by_class_and_number(tmp_path: Path) -> None:
    archives = Archive("Some-C", "x/a.tar", ""), Archive("Some-C-extra", "x/b.tar", "")
    for place in ("Some-C/fog", "Some-C-extra/inside/snow"):
        for severity in range(1, 6):
            for label, name in enumerate(("n1", "n2")):
                folder = tmp_path / place / str(severity) / name
                folder.mkdir(parents=True)
                for number in (2, 10, 1):
                    grey = 100 * label + 10 * severity + number
                    Image.new("RGB", (64, 64), (grey, grey, grey)).save(
                        folder / f"test_{number}.JPEG", quality=100
                    )
    known = folders(*archives)
    for name in ("fog", "snow"):
        found = known.find(tmp_path, name)
        assert found is not None
        images, labels = known.read(found, ("n1", "n2"))
        assert labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert images.shape == (5, 6, 64, 64, 3)
        wanted = [
            [100 * label + 10 * s + number for label in (0, 1) for number in (1, 2, 10)]
            for s in range(1, 6)
        ]
        assert np.abs(images[:, :, 9, 9, 1].astype(int) - wanted).max() <= 1
    assert known.find(tmp_path, "frost") is None
    with pytest.raises(RiftError, match=r"fog/1/n3: contains no image"):
        known.read(tmp_path / "Some-C/fog", ("n1", "n2", "n3"))
    (tmp_path / "Some-C/fog/4/n2/test_2.JPEG").unlink()
    with pytest.raises(RiftError, match=r"fog/4: contains other images than .*fog/1"):
        known.read(tmp_path / "Some-C/fog", ("n1", "n2"))


def test_what_is_written_is_read_back_and_a_part_of_it_refused(
    prepared: data.Prepared, tmp_path: Path
) -> None:
    path, labels = tmp_path / "fog.npy", prepared.labels["test"]
    written = split(prepared, tmp_path, images=20)
    files.save(path, written, labels, provenance("test", {}))
    read = files.load(path, labels)
    assert (read.corruption, read.source) == ("fog", "generated")
    assert np.array_equal(read.images, written.images)
    assert np.array_equal(np.load(tmp_path / "labels.npy"), np.tile(labels[:20], 5))

    other = labels.copy()
    other[19] = (other[19] + 1) % 10
    with pytest.raises(RiftError, match=r"fog\.npy: was not made from this test split"):
        files.load(path, other)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(RiftError, match=r"fog\.npy: is damaged"):
        files.load(path, labels)
    np.save(path, written.images.reshape(100, 8, 8, 1)[:-5])
    with pytest.raises(
        RiftError, match=r"fog\.npy: contains \(95, 8, 8, 1\) uint8 values instead of 20 images"
    ):
        files.load(path, labels)
    path.write_bytes(whole)
    (tmp_path / "fog.json").write_text("{}")
    with pytest.raises(
        RiftError, match=r"fog\.json: contains no corruption, source, images, labels"
    ):
        files.load(path, labels)
    (tmp_path / "fog.json").unlink()
    with pytest.raises(RiftError, match=r"fog\.json: does not exist"):
        files.load(path, labels)


def test_a_flipped_bit_in_a_corrupted_set_is_refused_where_it_is_read(
    prepared: data.Prepared, tmp_path: Path
) -> None:
    path, labels = tmp_path / "fog.npy", prepared.labels["test"]
    files.save(path, split(prepared, tmp_path, images=20), labels, provenance("test", {}))
    content = bytearray(path.read_bytes())
    content[-7] ^= 4  # in the last severity
    path.write_bytes(content)
    with pytest.raises(RiftError, match=r"fog\.npy: is damaged: the images of severity 5"):
        files.load(path, labels)
    mild = files.severities_of(path, prepared, Ood(severities=(1, 4)), data="digits", device="cpu")
    assert list(mild.severities) == [1, 4]
    with pytest.raises(RiftError, match=r"fog\.npy: is damaged"):
        files.severities_of(path, prepared, Ood(), data="digits", device="cpu")


def test_generated_tiny_imagenet_c_has_gone_through_jpeg_files_as_the_published_one() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (130, 8, 8, 3), dtype=np.uint8)
    tests = np.stack(
        [np.asarray(Image.fromarray(image).resize((64, 64))).transpose(2, 0, 1) for image in coarse]
    )
    tiny = data.Prepared(
        {"test": tests}, {"test": np.zeros(130, int)}, ("x",), (), (), {"dataset": "tiny-imagenet"}
    )
    made = files.corrupted_test_split(
        tiny, "contrast", Corrupt(source="generated"), Path("nowhere")
    )
    plain = corrupt(tests, "contrast", 0)
    for number in (0, 129):
        buffer = io.BytesIO()
        Image.fromarray(plain[2, number].transpose(1, 2, 0)).save(buffer, "JPEG", quality=85)
        assert np.array_equal(made.images[2, number], np.asarray(Image.open(buffer)))


def test_robustbench_reads_what_is_generated(tmp_path: Path) -> None:
    prepare_robustbench()
    from robustbench.data import load_corruptions_cifar
    from robustbench.model_zoo.enums import BenchmarkDataset

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 10_000)
    tests = np.repeat(rng.integers(0, 256, (100, 3, 32, 32), dtype=np.uint8), 100, axis=0)
    cifar = data.Prepared(
        {"test": tests}, {"test": labels}, ("x",) * 10, (), (), {"dataset": "cifar10"}
    )
    made = files.corrupted_test_split(cifar, "contrast", Corrupt(source="generated"), tmp_path)
    files.save(tmp_path / "CIFAR-10-C" / "contrast.npy", made, labels, provenance("test", {}))
    for severity in (1, 4):
        x, y = load_corruptions_cifar(
            BenchmarkDataset.cifar_10, 300, severity, str(tmp_path), ["contrast"]
        )
        assert np.array_equal(y.numpy(), labels[:300])
        wanted = corrupt(tests[:300], "contrast", 0)[severity - 1]
        assert np.allclose(x.numpy(), wanted / 255, atol=1e-6)
