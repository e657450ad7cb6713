"""Data sets of users: image folders and arrays; and published sets with images of any size."""

import csv
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from rift import config
from rift.commands.prepare import Prepare
from rift.config import Data
from rift.data import load, prepare
from rift.data.sources.named import dataset_named
from rift.errors import RiftError
from tests.commands.parsing import parse_command

COLOURS = {"ant": (200, 20, 20), "bee": (20, 200, 20), "cat": (20, 20, 200)}


def picture(path: Path, colour: tuple[int, ...], size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if len(colour) == 3 else "L", size, colour).save(path)


def folder_of(root: Path, *parts: str, count: int = 4) -> Path:
    """Write images of three colours, of several sizes, as PNG and JPEG."""
    for part in parts:
        for number, (name, colour) in enumerate(COLOURS.items()):
            for image in range(count):
                ending = ("png", "JPG")[image % 2]
                size = (40 + 10 * image, 30 + 20 * number)
                picture(root / "pets" / part / name / f"{image}.{ending}", colour, size)
    return root / "pets"


def read(root: Path, name: str = "image-folder:pets", side: int | None = 16) -> Any:
    return prepare(name, Data(root=str(root), side=side, validation=0.25, test=0.25))


def is_of_its_colour(image: np.ndarray, label: int) -> bool:
    colour = np.array(list(COLOURS.values())[label])[:, None, None]
    return bool((np.abs(image.astype(int) - colour) < 12).all())


@pytest.mark.parametrize("parts", [("train", "test"), ("",)])
def test_every_image_of_a_folder_gets_the_label_of_its_class(
    parts: tuple[str, ...], tmp_path: Path
) -> None:
    folder_of(tmp_path, *parts)
    prepared = read(tmp_path)
    assert prepared.classes == ("ant", "bee", "cat")
    counts = {split: len(labels) for split, labels in prepared.labels.items()}
    assert sum(counts.values()) == 12 * len(parts)
    assert counts["test"] == (12 if len(parts) == 2 else 3)
    for split, images in prepared.images.items():
        assert images.shape[1:] == (3, 16, 16)
        assert images.dtype == np.uint8
        for image, label in zip(images, prepared.labels[split], strict=True):
            assert is_of_its_colour(image, label)
    # Class folders are sorted, and the images are not.
    assert prepared.labels["train"].tolist() != sorted(prepared.labels["train"])


def test_a_split_file_decides_and_must_name_every_image_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "")
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.*"))]
    rows = [
        [name, "test" if name.startswith(("ant/0", "bee/1", "cat/2")) else "train"]
        for name in names
    ]

    def write(lines: list[list[str]]) -> None:
        with (folder / "split.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["file", "split"], *lines])

    write(rows)
    prepared = read(tmp_path)
    assert sorted(prepared.labels["test"].tolist()) == [0, 1, 2]
    for lines, message in (
        (rows[1:], "does not name ant/0.png"),
        ([*rows, rows[3]], "line 14: must name an image"),
        ([["../elsewhere.png", "train"], *rows], "line 2: must name an image"),
        ([[rows[0][0], "both"], *rows[1:]], "line 2: must name an image"),
    ):
        write(lines)
        with pytest.raises(RiftError, match=message):
            read(tmp_path)


def test_the_middle_of_an_image_is_cut_out_after_resizing(tmp_path: Path) -> None:
    """A picture of 14 × 28 pixels for a side of 7: 8 × 16, rows 4 to 11, columns 0 to 7."""
    folder = folder_of(tmp_path, "train", "test")
    pixels = np.zeros((28, 14, 3), np.uint8)
    pixels[14:] = 240
    exact = np.arange(7 * 7 * 3, dtype=np.uint8).reshape(7, 7, 3)
    for path in folder.rglob("*.*"):
        path.unlink()
    for part in ("train", "test"):
        for name in COLOURS:
            Image.fromarray(pixels if name == "ant" else exact).save(folder / part / name / "1.png")
    source = prepare_source(tmp_path)
    for image, label in zip(source.images, source.labels, strict=True):
        if label == 0:
            assert (image[:, :3] == 0).all()
            # The edge lies between two rows, and the filter reaches over it.
            assert (np.diff(image[0, :, 0].astype(int)) >= 0).all()
            assert (image[:, 5:] == 240).all()
        else:
            assert np.array_equal(image, np.moveaxis(exact, 2, 0))


def prepare_source(root: Path) -> Any:
    return dataset_named("image-folder:pets").source(root, 7)


Change = Callable[[Path], object]
BAD_FOLDERS: dict[str, tuple[Change, str]] = {
    "nothing": (lambda folder: folder.rename(folder.with_name("x")), "pets: is no folder; put the"),
    "no test": (lambda folder: (folder / "test").rename(folder / "no"), "test: contains no class"),
    "empty class": (
        lambda folder: (folder / "train/dog").mkdir(),
        r"train/dog: contains no image \(.jpg, .jpeg, .png\)",
    ),
    "other class": (
        lambda folder: picture(folder / "test/dog/1.png", (1, 2, 3)),
        "dog is a class of only one of training and test images",
    ),
    "damaged": (
        lambda folder: (folder / "train/ant/0.png").write_bytes(b"no image"),
        # Pillow's own reason names an object in memory only, so none is given.
        r"ant/0.png: is damaged or not a JPEG or PNG image; replace or remove the file",
    ),
    "cut off": (
        lambda folder: os.truncate(folder / "train/ant/0.png", 50),
        r"ant/0.png: is damaged or not a JPEG or PNG image \(.*\); replace or remove the file",
    ),
    "other format": (
        lambda folder: Image.new("RGB", (9, 9)).save(folder / "train/ant/0.png", format="GIF"),
        "ant/0.png: is damaged or not a JPEG or PNG image",
    ),
    "16 bits": (
        lambda folder: Image.fromarray(np.full((30, 40), 40_000, np.uint16)).save(
            folder / "train/ant/0.png"
        ),
        r"ant/0.png: has more than 8 bits per pixel; convert it to 8 bits",
    ),
    "another ending": (
        lambda folder: Image.new("RGB", (9, 9)).save(folder / "train/ant/9.webp"),
        r"ant/9\.webp: is no JPEG or PNG image, which rift does not read; put its images into",
    ),
    "folder inside": (
        lambda folder: picture(folder / "train/ant/more/1.png", (1, 2, 3)),
        r"ant/more: is a folder inside a class",
    ),
    "thin": (
        lambda folder: picture(folder / "train/ant/0.png", (1, 2, 3), (510, 10)),
        r"ant/0.png: has 510 × 10 pixels; one side is more than 50 times the other",
    ),
    "huge": (
        lambda folder: Image.new("1", (9000, 6000)).save(folder / "train/ant/0.png"),
        r"ant/0.png: has 9000 × 6000 pixels, more than 50,000,000",
    ),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_a_folder_that_is_no_data_set_is_refused(kind: str, tmp_path: Path) -> None:
    change, message = BAD_FOLDERS[kind]
    change(folder_of(tmp_path, "train", "test", count=2))
    with pytest.raises(RiftError, match=message):
        read(tmp_path)


def test_one_class_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "pets/ant/1.png", (1, 2, 3))
    with pytest.raises(RiftError, match="has the class ant only"):
        read(tmp_path)


def some_arrays(**changed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)
    labels = np.arange(30) % 5
    arrays = {
        "train_images": images[:20],
        "train_labels": labels[:20],
        "test_images": images[20:],
        "test_labels": labels[20:],
    }
    merged = {**arrays, **changed}
    return {key: value for key, value in merged.items() if value is not None}


@pytest.mark.parametrize("form", ["uint8", "channels last", "floats", "float32"])
def test_arrays_of_every_accepted_form_give_the_same_images(form: str, tmp_path: Path) -> None:
    arrays = some_arrays()
    for key in ("train_images", "test_images"):
        if form == "channels last":
            arrays[key] = np.moveaxis(arrays[key], 1, 3)
        elif form != "uint8":
            arrays[key] = (arrays[key] / 255).astype("float64" if form == "floats" else "float32")
    np.savez(tmp_path / "mine.npz", **arrays)
    prepared = read(tmp_path, "arrays:mine", None)
    expected = some_arrays()
    assert np.array_equal(prepared.images["test"], expected["test_images"])
    assert prepared.labels["test"].tolist() == expected["test_labels"].tolist()
    assert prepared.classes == tuple("01234")


GREY = np.zeros((20, 8, 8), np.uint8)
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": ({"train_labels": None}, "lacks train_labels; it contains"),
    "half a test": ({"test_labels": None}, "lacks test_labels"),
    "range": (
        {"train_images": np.full((20, 3, 8, 8), 2.0)},
        r"must be uint8, or floats in \[0, 1\] that are multiples of 1/255.* from 2 to 2",
    ),
    "between": ({"train_images": np.full((20, 3, 8, 8), 0.5005)}, "stores 8 bits"),
    "nan": ({"train_images": np.full((20, 3, 8, 8), np.nan)}, r"\[0, 1\]; found is NaN or inf"),
    "from -1": ({"train_labels": np.arange(20) % 5 - 1}, "found is the label -1"),
    "from 1": ({"train_labels": np.arange(20) % 5 + 1}, "found are 5 labels from 1 to 5$"),
    "one image": (
        {"train_labels": np.arange(20) // 19, "test_labels": np.arange(10) % 2},
        "class 1 has too few images, so none",
    ),
    "ints": ({"train_images": np.zeros((20, 3, 8, 8), np.int64)}, "found is int64"),
    "not square": ({"train_images": np.zeros((20, 3, 8, 9), np.uint8)}, "must be square images"),
    "channels": ({"train_images": np.zeros((20, 4, 8, 8), np.uint8)}, "one or three channels"),
    "two shapes": ({"train_images": GREY}, r"have the shape \(1, 8, 8\), but test images"),
    "few labels": ({"train_labels": np.zeros(3, int)}, "one whole number from 0 on for each"),
    "float labels": ({"train_labels": np.zeros(20)}, "one whole number from 0 on for each"),
    "gap": ({"train_labels": np.arange(20) % 5 * 2}, "must contain every class from 0"),
    "names": ({"classes": np.array(["a", "b"])}, "and 2 names"),
    "new class": ({"test_labels": np.arange(10)}, "test_labels contain 9, which train_labels lack"),
    "objects": ({"train_labels": np.array([{}] * 20)}, "is no .npz file of plain arrays"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_arrays_that_are_no_data_set_are_refused(kind: str, tmp_path: Path) -> None:
    change, message = BAD_ARRAYS[kind]
    np.savez(tmp_path / "mine.npz", **some_arrays(**change))
    with pytest.raises(RiftError, match=message):
        read(tmp_path, "arrays:mine", None)


def test_a_file_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RiftError, match=r"mine\.npz: is missing"):
        read(tmp_path, "arrays:mine", None)
    np.savez_compressed(tmp_path / "mine.npz", **some_arrays())
    whole = (tmp_path / "mine.npz").read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(byte ^ 255 for byte in whole[middle : middle + 9])
    for damaged in (b"PK damaged", whole[:middle], flipped + whole[middle + 9 :]):
        (tmp_path / "mine.npz").write_bytes(damaged)
        with pytest.raises(RiftError, match=r"is no \.npz file"):
            read(tmp_path, "arrays:mine", None)


def test_arrays_without_a_test_split_get_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **some_arrays(test_images=None, test_labels=None))
    prepared = read(tmp_path, "arrays:mine", None)
    assert np.bincount(prepared.labels["test"]).tolist() == [1] * 5


def test_the_side_is_a_setting_of_images_of_any_size_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **some_arrays())
    for name in ("arrays:mine", "digits"):
        with pytest.raises(RiftError, match=r"data\.side: the images of this data set have one"):
            read(tmp_path, name, 32)


@pytest.mark.parametrize(
    "name",
    [
        "image-folder:",
        "image-folder:..",
        "image-folder:a/b",
        "arrays:.x",
        "arrays:a-to-b",
        "image-folder:a b",
    ],
)
def test_names_that_could_leave_the_data_root_or_be_misread_are_refused(name: str) -> None:
    with pytest.raises(RiftError, match="image-folder:NAME or arrays:NAME"):
        config.parse(
            {"experiment": "x", "grid": {"datasets": [name], "architectures": ["resnet8"]}}, "x"
        )


def test_ranges_and_transfers_of_own_data_sets_are_names_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **some_arrays())
    part = read(tmp_path, "arrays:mine-1-3", None)
    assert part.classes == ("1", "2", "3")
    grid = {
        "datasets": ["arrays:mine-0-2"],
        "architectures": ["resnet8"],
        "transfers": ["arrays:mine-0-2-to-image-folder:pets"],
    }
    experiment = config.parse({"experiment": "x", "grid": grid}, "x")
    assert experiment.datasets == ["arrays:mine-0-2", "image-folder:pets"]


def test_the_command_prepares_a_folder(tmp_path: Path) -> None:
    folder_of(tmp_path, "train", "test")
    words = ["prepare", "--dataset", "image-folder:pets", "--data.root", str(tmp_path)]
    out = tmp_path / "out.safetensors"
    paths = ["--output", str(out), "--manifest", str(tmp_path / "manifest.json")]
    command = parse_command(*words, "--data.side", "8", "--data.validation", "0.25", *paths)
    assert isinstance(command, Prepare)
    command.run()
    assert load(out).size == 8


# Published sets, in the layout of their archives.


def write_caltech(root: Path) -> None:
    for number, (name, colour) in enumerate(COLOURS.items(), start=1):
        for image in range(4):
            path = f"256_ObjectCategories/{number:03d}.{name}/{number:03d}_{image:04d}.jpg"
            picture(root / path, colour)
    picture(root / "256_ObjectCategories/257.clutter/257_0001.jpg", (9, 9, 9))


def write_cub(root: Path) -> None:
    files = [
        f"{number:03d}.{name}/{image}.jpg"
        for number, name in enumerate(COLOURS, start=1)
        for image in range(4)
    ]
    for file in files:
        picture(root / "CUB_200_2011/images" / file, COLOURS[file[4:7]])
    lists = {
        "images": [f"{number} {file}" for number, file in enumerate(files, start=1)],
        "train_test_split": [f"{number} {int(number % 4 != 0)}" for number in range(1, 13)],
    }
    for name, lines in lists.items():
        (root / f"CUB_200_2011/{name}.txt").write_text("\n".join(lines) + "\n")


def write_dogs(root: Path) -> None:
    for split, numbers in (("train", range(3)), ("test", range(3, 4))):
        files = [f"n0-{name}/{image}.jpg" for name in COLOURS for image in numbers]
        for file in files:
            picture(root / "stanford-dogs/Images" / file, COLOURS[file[3:6]])
        listed = np.empty((len(files), 1), dtype=object)
        listed[:, 0] = files
        scipy.io.savemat(root / f"stanford-dogs/{split}_list.mat", {"file_list": listed})


@pytest.mark.parametrize(
    ("name", "module", "write", "counts"),
    [
        ("caltech-256", "caltech256", write_caltech, {"classes": 3, "images": 12}),
        ("cub-200", "cub200", write_cub, {"classes": 3, "training images": 9, "test images": 3}),
        (
            "stanford-dogs",
            "stanford_dogs",
            write_dogs,
            {"classes": 3, "training images": 9, "test images": 3},
        ),
    ],
)
def test_published_sets_are_read_by_their_layout_and_checked_by_counts(
    name: str,
    module: str,
    write: Callable[[Path], None],
    counts: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RiftError, match=r"is missing; download .*and unpack it, so that"):
        read(tmp_path, name)
    write(tmp_path)
    with pytest.raises(RiftError, match=r"contains 3 classes; the published data set has"):
        read(tmp_path, name)
    monkeypatch.setattr(importlib.import_module(f"rift.data.sources.{module}"), "COUNTS", counts)
    prepared = read(tmp_path, name)
    assert {split: len(labels) for split, labels in prepared.labels.items()} == {
        "train": 6,
        "validation": 3,
        "test": 3,
    }
    for split, images in prepared.images.items():
        for image, label in zip(images, prepared.labels[split], strict=True):
            assert is_of_its_colour(image, label)


@pytest.mark.parametrize("name", ["cub-200", "stanford-dogs"])
def test_a_list_that_names_files_outside_of_the_set_is_refused(name: str, tmp_path: Path) -> None:
    outside = "001.ant/../../../secret.jpg"
    if name == "cub-200":
        write_cub(tmp_path)
        path = tmp_path / "CUB_200_2011/images.txt"
        path.write_text(path.read_text().replace("001.ant/0.jpg", outside))
    else:
        write_dogs(tmp_path)
        listed = np.empty((1, 1), dtype=object)
        listed[0, 0] = outside
        scipy.io.savemat(tmp_path / "stanford-dogs/test_list.mat", {"file_list": listed})
    with pytest.raises(RiftError, match=r"a list names 001\.ant/\.\./.* which is outside"):
        read(tmp_path, name)


def test_notes_beside_images_and_the_mark_of_a_spreadsheet_do_no_harm(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "")
    (folder / "ant/notes.txt").write_text("seen in May")
    lines = [
        f"{path.relative_to(folder).as_posix()},{'test' if path.stem == '0' else 'train'}"
        for path in sorted(folder.glob("*/*"))
        if path.suffix != ".txt"
    ]
    text = "\n".join(["file,split", *lines])
    (folder / "split.csv").write_text(text, encoding="utf-8-sig")
    assert len(read(tmp_path).labels["test"]) == 3


def test_a_missing_list_of_stanford_dogs_is_named_with_where_it_is_from(tmp_path: Path) -> None:
    write_dogs(tmp_path)
    (tmp_path / "stanford-dogs/train_list.mat").unlink()
    with pytest.raises(RiftError, match=r"train_list\.mat: is missing; download lists\.tar of"):
        read(tmp_path, "stanford-dogs")
