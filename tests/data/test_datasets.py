"""Data sets in their official layouts: small artificial ones, and real ones.

Tests of real data sets require them below the data root.
"""

import hashlib
import io
import pickle
import re
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, SupportsFloat

import numpy as np
import pytest
from PIL import Image

from rift import data
from rift.config import Data, DatasetName, data_root
from rift.data.sources import DATASETS
from rift.data.sources.cifar import CIFAR10, CIFAR100, Layout, cifar
from rift.data.sources.download import obtain
from rift.data.sources.source import Archive, Dataset, Source
from rift.data.sources.tiny_imagenet import tiny_imagenet
from rift.errors import RiftError


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


# CIFAR


def batch(count: int, seed: int, key: str) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 100, count).tolist()
    images = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    return {
        "data": images,
        key: labels,
        "coarse_labels": [0] * count,
        "filenames": ["x.png"] * count,
    }


def write_cifar100(root: Path, **changed: bytes) -> Layout:
    """Write CIFAR-100 in its official layout and return the layout with its checksums.

    The data set has 40 training images and 20 test images.
    """
    content = {
        "train": pickle.dumps(batch(40, 0, "fine_labels"), protocol=4),
        "test": pickle.dumps(batch(20, 1, "fine_labels"), protocol=4),
        "meta": pickle.dumps(
            {
                "fine_label_names": [f"class {n}" for n in range(100)],
                "coarse_label_names": ["x"] * 20,
            }
        ),
        **changed,
    }
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, text in content.items():
        (folder / name).write_bytes(text)
    sums = {name: md5(text) for name, text in content.items()}
    return replace(
        CIFAR100,
        train={"train": sums["train"]},
        test=("test", sums["test"]),
        meta=("meta", sums["meta"]),
        sha256={},
    )


def test_cifar100_is_read_with_its_fine_labels_and_colour_planes(tmp_path: Path) -> None:
    source = cifar(write_cifar100(tmp_path))(tmp_path)
    written = batch(40, 0, "fine_labels")
    assert source.classes[:2] == ("class 0", "class 1")
    assert len(source.classes) == 100
    assert source.labels.tolist() == written["fine_labels"]
    assert source.images.shape == (40, 3, 32, 32)
    # The red, green and blue planes follow each other, each one row by row.
    assert source.images[7, 2, 3, 5] == written["data"][7, 2 * 1024 + 3 * 32 + 5]
    assert source.test_labels is not None
    assert source.test_labels.tolist() == batch(20, 1, "fine_labels")["fine_labels"]
    assert set(source.checksums) == {
        f"cifar-100-python/{name}" for name in ("meta", "train", "test")
    }


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    layout = write_cifar100(tmp_path)
    path = tmp_path / "cifar-100-python" / "train"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RiftError, match=rf"{re.escape(str(path))}: is not the published file"):
        cifar(layout)(tmp_path)


def test_a_file_with_the_published_md5_alone_is_refused(tmp_path: Path) -> None:
    layout = replace(write_cifar100(tmp_path), sha256={"train": "0" * 64})
    with pytest.raises(RiftError, match=r"train: is not the published file \(its sha256 is"):
        cifar(layout)(tmp_path)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_pickle_that_wants_to_run_code_is_refused_even_if_its_checksum_fits(
    tmp_path: Path,
) -> None:
    marker = tmp_path / "was-run"
    layout = write_cifar100(tmp_path, train=pickle.dumps({"data": Malicious(marker)}))
    with pytest.raises(
        RiftError, match=r"train: is not a file of the official Python version \(it contains "
    ):
        cifar(layout)(tmp_path)
    assert not marker.exists()


def test_labels_of_another_length_are_refused(tmp_path: Path) -> None:
    wrong = batch(40, 0, "fine_labels")
    wrong["fine_labels"].pop()
    layout = write_cifar100(tmp_path, train=pickle.dumps(wrong, protocol=4))
    with pytest.raises(RiftError, match=r"train: contains \(40, 3072\) uint8 values for 39 labels"):
        cifar(layout)(tmp_path)


def test_a_missing_file_is_named_with_where_it_is_from(tmp_path: Path) -> None:
    layout = write_cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / "meta").unlink()
    with pytest.raises(
        RiftError, match=r"meta: cannot be read \(No such file.*cs\.toronto\.edu/~kriz/cifar-100"
    ):
        cifar(layout)(tmp_path)


# Tiny-ImageNet

# The order is that of wnids.txt, which is not sorted.
COLOURS = {
    "n03": (250, 0, 0),
    "n01": (0, 250, 0),
    "n02": (0, 0, 250),
}


def write_tiny(root: Path) -> Path:
    """Write three classes of one colour each.

    Each class has 4 training images and 3 validation images. The validation images are not ordered
    by class.
    """
    folder = root / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(COLOURS) + "\n")
    for wnid, colour in COLOURS.items():
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for number in (0, 1, 2, 10):
            Image.new("RGB", (64, 64), colour).save(
                folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG"
            )
        boxes = [f"{wnid}_{number}.JPEG\t0\t0\t63\t63\n" for number in (0, 1, 2, 10)]
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("".join(boxes))
    lines = []
    for number, wnid in enumerate(["n02", "n03", "n01"] * 3):
        Image.new("RGB", (64, 64), COLOURS[wnid]).save(
            folder / "val" / "images" / f"val_{number}.JPEG"
        )
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


def test_tiny_imagenet_s_validation_images_get_the_labels_of_their_annotations(
    tmp_path: Path,
) -> None:
    write_tiny(tmp_path)
    source = tiny_imagenet(tmp_path)
    assert source.classes == ("n01", "n02", "n03")
    assert source.test_images is not None
    assert source.test_labels is not None
    assert len(source.images) == 12
    assert len(source.test_images) == 9
    # Maps classes to colour channels: n01 is green, n02 is blue and n03 is red.
    brightest = {0: 1, 1: 2, 2: 0}
    for images, labels in (
        (source.images, source.labels),
        (source.test_images, source.test_labels),
    ):
        for image, label in zip(images, labels, strict=True):
            assert image.mean(axis=(1, 2)).argmax() == brightest[int(label)]
    assert source.test_labels.tolist() == [1, 2, 0] * 3
    # Preparation shuffles the images: the first training images are of several classes.
    assert source.labels.tolist() != sorted(source.labels)
    assert np.array_equal(source.images, tiny_imagenet(tmp_path).images)


def test_a_grey_jpeg_becomes_rgb(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    path = folder / "train" / "n01" / "images" / "n01_2.JPEG"
    Image.new("L", (64, 64), 77).save(path)
    grey = [image for image in tiny_imagenet(tmp_path).images if np.unique(image).tolist() == [77]]
    assert [image.shape for image in grey] == [(3, 64, 64)]


def rearrange(folder: Path) -> None:
    """Sort validation images into class folders, like scripts for readers of class folders."""
    for line in (folder / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid, *_ = line.split("\t")
        (folder / "val" / wnid).mkdir(exist_ok=True)
        (folder / "val" / "images" / name).rename(folder / "val" / wnid / name)
    (folder / "val" / "images").rmdir()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def annotations(change: Callable[[str], str]) -> Callable[[Path], object]:
    """Rewrite val_annotations.txt."""

    def rewrite(folder: Path) -> None:
        path = folder / "val" / "val_annotations.txt"
        path.write_text(change(path.read_text()))

    return rewrite


DAMAGE: dict[str, Callable[[Path], object]] = {
    r"train/n02/images: lacks 1 of the 4 images that n02_boxes\.txt names, such as n02_1\.JPEG": (
        lambda folder: (folder / "train/n02/images/n02_1.JPEG").unlink()
    ),
    r"n02_1\.JPEG: is damaged or not a JPEG image": lambda folder: Image.new("RGB", (64, 64)).save(
        folder / "train/n02/images/n02_1.JPEG", "PNG"
    ),
    r"n02_1\.JPEG: has 3000 × 3000 pixels instead of 64 × 64": lambda folder: Image.new(
        "L", (3000, 3000)
    ).save(folder / "train/n02/images/n02_1.JPEG", "JPEG"),
    r"val/images: is missing; if the images have been sorted into class folders": rearrange,
    r"wnids\.txt: does not name the classes of .*train, each once \(n02\)": lambda folder: (
        shutil.rmtree(folder / "train" / "n02")
    ),
    r"wnids\.txt: does not name the classes of .*train, each once \(n03\)": lambda folder: (
        folder / "wnids.txt"
    ).write_text("n01\nn02\n"),
    (
        r"wnids\.txt: does not name the classes of .*train, each once \(a class twice\)"
    ): lambda folder: (folder / "wnids.txt").write_text("n01\nn02\nn03\nn03\n"),
    r"train/n02/images: contains no image": lambda folder: shutil.rmtree(
        folder / "train" / "n02" / "images"
    ),
    r"n03_1\.JPEG: is damaged or not a JPEG image": lambda folder: truncate(
        folder / "train" / "n03" / "images" / "n03_1.JPEG"
    ),
    r"n01_0\.JPEG: has 32 × 32 pixels": lambda folder: Image.new("RGB", (32, 32)).save(
        folder / "train" / "n01" / "images" / "n01_0.JPEG"
    ),
    r"val_annotations\.txt: has no line for extra\.JPEG": lambda folder: (
        folder / "val" / "images" / "extra.JPEG"
    ).touch(),
    r"val_4\.JPEG: is missing": lambda folder: (folder / "val" / "images" / "val_4.JPEG").unlink(),
    r"wnids\.txt: cannot be read \(No such file.*delete tiny-imagenet-200": lambda folder: (
        folder / "wnids.txt"
    ).unlink(),
    r"val_annotations\.txt, line 10: is not the name of an image, a tab": annotations(
        lambda text: text + "\n"
    ),
    r"val_annotations\.txt, line 1: is not": annotations(lambda text: text.replace("\t", " ", 1)),
    r"val_annotations\.txt, line 2: is not": annotations(
        lambda text: text.replace("n03", "n99", 1)
    ),
    r"val_annotations\.txt, line 3: is not": annotations(
        lambda text: text.replace("val_2.JPEG", "../x.JPEG")
    ),
    r"val_annotations\.txt: names an image twice": annotations(lambda text: text + text),
    r"val_annotations\.txt: names no image of class n03": annotations(
        lambda text: text.replace("n03", "n01")
    ),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_tiny_imagenet_is_refused(message: str, tmp_path: Path) -> None:
    DAMAGE[message](write_tiny(tmp_path))
    with pytest.raises(RiftError, match=message):
        tiny_imagenet(tmp_path)


# Downloads


class Server(BaseHTTPRequestHandler):
    """Serves one file; ends each answer after ``patience`` bytes; may not support ranges."""

    content: ClassVar[bytes] = b""
    patience: ClassVar[int] = 1 << 30
    redirect: ClassVar[str | None] = None
    ranges: ClassVar[bool] = True
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.asked.append(asked)
        if self.redirect is not None and self.path != "/moved":
            self.send_response(302)
            self.send_header("Location", self.redirect)
            self.end_headers()
            return
        start = int(re.findall(r"\d+", asked)[0]) if asked and self.ranges else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if asked and self.ranges else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start : start + self.patience])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Archive]:
    """Return an archive of a folder of 300 kB, on a local server."""
    buffer = io.BytesIO()
    payload = np.random.default_rng(0).bytes(300_000)
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("some-set/payload")
        entry.size = len(payload)
        archive.addfile(entry, io.BytesIO(payload))
    Server.content, Server.patience, Server.ranges, Server.asked = (
        buffer.getvalue(),
        1 << 30,
        True,
        [],
    )
    Server.redirect = None
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Archive(
        "some-set", f"http://127.0.0.1:{server.server_port}/set.tar.gz", md5(Server.content)
    )
    server.shutdown()
    thread.join()
    server.server_close()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_download_goes_on_where_it_broke_off(served: Archive, tmp_path: Path) -> None:
    Server.patience = 100_000
    seen: list[float] = []

    def progress(done: float, total: int, note: str = "", **figures: SupportsFloat) -> None:
        seen.append(done)

    obtain(tmp_path / "root", served, progress)
    assert (tmp_path / "root" / "some-set" / "payload").stat().st_size == 300_000
    assert Server.asked == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]
    assert seen == sorted(seen)
    assert left_in(tmp_path / "root") == ["some-set"]
    obtain(tmp_path / "root", served)
    # The download does not request existing parts again.
    assert len(Server.asked) == 4


def test_what_came_before_a_break_is_kept_for_the_next_command(
    served: Archive, tmp_path: Path
) -> None:
    part = tmp_path / "set.tar.gz.part"
    part.write_bytes(Server.content[:120_000])
    with pytest.raises(RiftError, match=r"could not be downloaded .* kept in set\.tar\.gz\.part"):
        obtain(tmp_path, Archive("some-set", "http://127.0.0.1:1/set.tar.gz", served.md5))
    assert part.stat().st_size == 120_000
    obtain(tmp_path, served)
    assert Server.asked[0] == "bytes=120000-"
    assert left_in(tmp_path) == ["some-set"]


def test_a_server_without_ranges_begins_anew(served: Archive, tmp_path: Path) -> None:
    Server.ranges = False
    (tmp_path / "set.tar.gz.part").write_bytes(b"x" * 1000)
    obtain(tmp_path, served)
    assert left_in(tmp_path) == ["some-set"]


def test_what_is_not_the_published_archive_is_refused_and_deleted(
    served: Archive, tmp_path: Path
) -> None:
    with pytest.raises(RiftError, match=r"set\.tar\.gz\.part: is not the published archive"):
        obtain(tmp_path, replace(served, md5="0" * 32))
    assert left_in(tmp_path) == []
    (tmp_path / "set.tar.gz").write_bytes(b"what somebody put there is not ours to delete")
    with pytest.raises(RiftError, match=r"set\.tar\.gz: is not the published archive"):
        obtain(tmp_path, served)
    assert left_in(tmp_path) == ["set.tar.gz"]


def test_an_archive_with_the_published_md5_alone_is_refused(
    served: Archive, tmp_path: Path
) -> None:
    right = hashlib.sha256(Server.content).hexdigest()
    with pytest.raises(RiftError, match=r"is not the published archive \(its sha256 is"):
        obtain(tmp_path, replace(served, sha256="0" * 64))
    assert left_in(tmp_path) == []
    obtain(tmp_path, replace(served, sha256=right))
    assert left_in(tmp_path) == ["some-set"]


def test_published_archives_come_over_https() -> None:
    sets = DATASETS.values()
    archives = [dataset.archive for dataset in sets if dataset.archive]
    corrupted = [archive for s in sets if s.corrupted for archive in s.corrupted.archives]
    assert archives
    assert all(archive.url.startswith("https://") for archive in [*archives, *corrupted])
    assert all(archive.sha256 for archive in archives)


def test_a_redirect_to_http_is_refused(served: Archive, tmp_path: Path) -> None:
    Server.redirect = served.url.replace("set.tar.gz", "moved")
    with pytest.raises(RiftError, match=r"redirects to http://.*/moved, which is not https"):
        obtain(tmp_path / "root", served)
    assert left_in(tmp_path) == []


def hostile(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        hostile("../outside", tarfile.REGTYPE),
        hostile("/outside", tarfile.REGTYPE),
        hostile("some-set/link", tarfile.SYMTYPE, "/etc/passwd"),
        hostile("some-set/link", tarfile.LNKTYPE, "some-set/x"),
        hostile("some-set/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda entry: entry.name,
)
def test_members_outside_the_folder_are_refused(entry: tarfile.TarInfo, tmp_path: Path) -> None:
    path = tmp_path / "root" / "set.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as packed:
        packed.addfile(hostile("some-set/x", tarfile.REGTYPE))
        packed.addfile(entry)
    archive = Archive("some-set", "https://127.0.0.1:1/set.tar", md5(path.read_bytes()))
    with pytest.raises(RiftError, match=f"its member '{entry.name}' .* so it is not unpacked"):
        obtain(path.parent, archive)
    assert left_in(path.parent) == ["set.tar"]
    assert left_in(tmp_path) == ["root"]


def test_members_outside_the_folder_of_a_zip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("../outside", "x")
    archive = Archive("some-set", "https://127.0.0.1:1/set.zip", md5(path.read_bytes()))
    with pytest.raises(RiftError, match=r"its member '\.\./outside' lies outside"):
        obtain(tmp_path, archive)
    assert left_in(tmp_path) == ["set.zip"]


def test_the_checked_archive_is_the_one_that_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody exchanges the file right after its check."""
    path, other = tmp_path / "set.zip", tmp_path / "other.zip"
    for file, text in ((path, "right"), (other, "wrong")):
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("some-set/payload", text)
    archive = Archive("some-set", "https://127.0.0.1:1/set.zip", md5(path.read_bytes()))
    is_zipfile = zipfile.is_zipfile

    def exchange(file: Any) -> bool:
        if other.exists():
            other.replace(path)
        return is_zipfile(file)

    monkeypatch.setattr(zipfile, "is_zipfile", exchange)
    obtain(tmp_path, archive)
    assert (tmp_path / "some-set" / "payload").read_text() == "right"


def test_commands_that_want_the_same_archive_wait_for_each_other(
    served: Archive, tmp_path: Path
) -> None:
    Server.patience = 50_000
    threads = [threading.Thread(target=obtain, args=(tmp_path, served)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left_in(tmp_path) == ["some-set"]
    # The download requested every part once.
    assert len(Server.asked) == len(set(Server.asked))


def test_without_a_network_one_message_says_what_is_missing(tmp_path: Path) -> None:
    archive = Archive("some-set", "http://127.0.0.1:1/set.tar.gz", "0" * 32)
    root = tmp_path / "root"
    with pytest.raises(RiftError) as caught:
        obtain(root, archive)
    message = str(caught.value)
    for part in (str(root / "set.tar.gz"), archive.url, archive.md5, str(root / "some-set")):
        assert part in message
    assert "\n" not in message
    assert not root.exists()
    root.write_text("a file")
    with pytest.raises(RiftError, match="root: is the data root, but not a folder"):
        obtain(root, archive)


@pytest.mark.parametrize("folder", [True, False])
def test_an_archive_put_there_by_hand_is_unpacked(folder: bool, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        packed.writestr("some-set/payload" if folder else "payload", "x")
    archive = Archive(
        "some-set", "http://127.0.0.1:1/set.zip", md5((tmp_path / "set.zip").read_bytes())
    )
    obtain(tmp_path, archive)
    assert (tmp_path / "some-set" / "payload").read_text() == "x"
    assert left_in(tmp_path) == ["some-set"]
    # Other users who share the data root can read the data set.
    assert (tmp_path / "some-set").stat().st_mode & 0o055 == 0o055


def test_last_images_of_a_set_that_lies_by_class_are_no_selection_split(
    monkeypatch: pytest.MonkeyPatch, prepared: data.Prepared
) -> None:
    images, labels = prepared.images["train"], prepared.labels["train"]
    order = np.argsort(labels, kind="stable")
    source = Source(
        images[order],
        labels[order],
        prepared.classes,
        {},
        prepared.images["test"],
        prepared.labels["test"],
    )
    monkeypatch.setitem(DATASETS, "digits", Dataset(lambda _: source))
    with pytest.raises(
        RiftError, match=r"data\.cut: last: the last images of digits do not contain every class"
    ):
        data.prepare("digits", Data(cut="last"))


# Real images


def real(name: DatasetName) -> data.Prepared:
    """Prepare a real data set; skip the test if its folder is not below the data root."""
    archive = DATASETS[name].archive
    assert archive is not None
    if not (data_root(None) / archive.folder).is_dir():
        pytest.skip(f"{archive.folder} does not lie under the data root (RIFT_DATA)")
    return data.prepare(name, Data())


@pytest.mark.real
def test_real_cifar10() -> None:
    prepared = real("cifar10")
    classes = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    assert prepared.classes == classes
    counts = prepared.facts["images_per_class"]
    assert counts == {"train": [4500] * 10, "validation": [500] * 10, "test": [1000] * 10}
    assert prepared.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-3)
    # The first images of the test set are a cat, two ships, an airplane and two frogs.
    assert [classes[label] for label in prepared.labels["test"][:6]] == [
        "cat",
        "ship",
        "ship",
        "airplane",
        "frog",
        "frog",
    ]
    whole = cifar(CIFAR10)(data_root(None))
    levels = whole.images.transpose(1, 0, 2, 3).reshape(3, -1) / 255
    assert levels.mean(axis=1) == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-5)
    assert levels.std(axis=1) == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-5)


@pytest.mark.real
def test_real_tiny_imagenet() -> None:
    prepared = real("tiny-imagenet")
    assert len(prepared.classes) == 200
    # This class is goldfish.
    assert prepared.classes[0] == "n01443537"
    counts = prepared.facts["images_per_class"]
    assert len(set(counts["train"])) == len(set(counts["test"])) == 1
    assert counts["test"][0] in (25, 50)
    # The first images of every split are of many classes: 200 draws from 200 classes give 126
    # different classes on average.
    assert all(
        len(set(prepared.labels[split][:200])) > 100 for split in ("train", "validation", "test")
    )
    # The first validation image is annotated n03444034 (go-kart); a goldfish is mostly red.
    assert prepared.classes[prepared.labels["test"][0]] == "n03444034"
    goldfish = prepared.images["train"][prepared.labels["train"] == 0].mean(axis=(0, 2, 3))
    assert goldfish[0] > 1.3 * goldfish[2]
    assert prepared.mean == pytest.approx((0.48, 0.448, 0.3975), abs=0.01)
