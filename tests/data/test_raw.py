"""Raw files that change after a data set was prepared."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from rift import config
from rift.config import Corrupt
from rift.data.corruptions.published import SEVERITIES
from rift.data.raw import RawDigests, raw_corrupted_files, raw_files, stale_data
from tests.commands.parsing import parse_command

EXPERIMENT = config.parse(
    {
        "experiment": "tiny",
        "grid": {"datasets": ["tiny-imagenet"], "architectures": ["resnet18"]},
        "evaluate": {"ood": {"corruptions": ["fog"]}},
    },
    "test",
)
PREPARED = "data/tiny-imagenet/prepared.safetensors"
FOG = "data/tiny-imagenet/corrupted/fog.npy"


def image(path: Path, colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (colour, 255 - colour, 60)).save(path, format="JPEG")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a data root with a tiny Tiny-ImageNet and its fog."""
    root = tmp_path / "raw"
    folder = root / "tiny-imagenet-200"
    names = ["n1", "n2"]
    for label, name in enumerate(names):
        for number in range(4):
            image(folder / "train" / name / "images" / f"{name}_{number}.JPEG", 20 * number + label)
        for number in range(2):
            image(folder / "val/images" / f"val_{2 * label + number}.JPEG", 90 + number)
            for severity in range(1, SEVERITIES + 1):
                image(root / f"Tiny-ImageNet-C/fog/{severity}/{name}/{number}.JPEG", severity)
    (folder / "wnids.txt").write_text("n1\nn2\n")
    lines = [f"val_{number}.JPEG\tn{1 + number // 2}\t0\t0\t9\t9" for number in range(4)]
    (folder / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("RIFT_DATA", str(root))
    return root


@pytest.fixture
def results(root: Path, tmp_path: Path) -> Path:
    """Return a folder of results with the prepared set and its fog."""
    folder = tmp_path / "results/tiny"
    prepared, manifest = folder / PREPARED, folder / "data/tiny-imagenet/manifest.json"
    (folder / FOG).parent.mkdir(parents=True)
    words = ["prepare", "--dataset", "tiny-imagenet", "--data.validation", "0.25"]
    parse_command(*words, "--output", str(prepared), "--manifest", str(manifest)).run()
    words = ["corrupt", "--data", str(prepared), "--corruption", "fog"]
    parse_command(*words, "--output", str(folder / FOG)).run()
    return folder


def stale(results: Path) -> list[str]:
    memory = results.parent / ".snakemake/rift-raw.json"
    found = stale_data(EXPERIMENT, results, memory)
    return [path.removeprefix(f"{results}/") for path in found]


def test_a_changed_image_makes_its_set_stale_and_a_new_date_does_not(
    root: Path, results: Path
) -> None:
    assert stale(results) == []
    one = root / "tiny-imagenet-200/train/n1/images/n1_0.JPEG"
    os.utime(one, (0, 0))
    assert stale(results) == []
    before = one.read_bytes()
    image(one, 200)
    assert stale(results) == [PREPARED]
    one.write_bytes(before)
    assert stale(results) == []
    one.rename(one.with_name("n1_9.JPEG"))
    assert stale(results) == [PREPARED]
    one.with_name("n1_9.JPEG").unlink()
    assert stale(results) == [PREPARED]


def test_a_changed_published_set_makes_its_corruption_stale_also_if_it_comes_later(
    root: Path, results: Path
) -> None:
    folder = root / "Tiny-ImageNet-C"
    image(folder / "fog/3/n2/1.JPEG", 250)
    assert stale(results) == [FOG]
    # The copy that was made stays usable without the raw files.
    folder.rename(root / "elsewhere")
    assert stale(results) == []
    words = ["corrupt", "--data", str(results / PREPARED), "--corruption", "fog"]
    parse_command(*words, "--output", str(results / FOG)).run()
    assert json.loads((results / FOG).with_suffix(".json").read_text())["source"] == "generated"
    assert stale(results) == []
    (root / "elsewhere").rename(folder)
    assert stale(results) == [FOG]
    assert raw_corrupted_files("tiny-imagenet", "fog", Corrupt(source="generated"), root) == []


def test_sets_without_raw_files_or_without_a_record_are_left_alone(
    root: Path, results: Path
) -> None:
    path = results / "data/tiny-imagenet/manifest.json"
    facts = json.loads(path.read_text())
    image(root / "tiny-imagenet-200/train/n1/images/n1_0.JPEG", 200)
    path.write_text(json.dumps({key: value for key, value in facts.items() if key != "raw"}))
    assert stale(results) == []
    path.write_text("damaged")
    assert stale(results) == []
    assert raw_files("digits", root) == []


def test_the_digest_covers_names_and_contents_and_reads_unchanged_files_once(
    tmp_path: Path,
) -> None:
    folder, memory = tmp_path / "folder", tmp_path / "memory.json"
    (folder / "b").mkdir(parents=True)
    (folder / "b/one").write_bytes(b"1")
    (folder / "two").write_bytes(b"2")
    (folder / ".hidden").write_bytes(b"3")
    lines = [
        [f"0/{name}", hashlib.sha256(value).hexdigest()]
        for name, value in (("b/one", b"1"), ("two", b"2"))
    ]
    expected = hashlib.sha256(json.dumps(lines).encode()).hexdigest()
    assert RawDigests(memory)([folder, tmp_path / "missing"]) == expected
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "b").symlink_to(folder / "b")
    (linked / "two").symlink_to(folder / "two")
    assert RawDigests()([linked]) == expected
    # The memory answers for a file with the same size and date, so it was not read.
    date = (folder / "two").stat()
    (folder / "two").write_bytes(b"9")
    os.utime(folder / "two", ns=(date.st_atime_ns, date.st_mtime_ns))
    assert RawDigests(memory)([folder]) == expected
    assert RawDigests()([folder]) != expected
    memory.write_text("damaged")
    assert RawDigests(memory)([folder]) != expected
    assert RawDigests(memory)([tmp_path / "missing"]) is None
