"""Damaged artifacts between stages, a full disk, and results that cannot be written."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rift import config, layout
from rift.layout import Cell, Run
from tests.experiment import Words, commands, outputs, rift
from tests.workflow.running import SMALL

EXPERIMENT = config.parse(SMALL, "config.yaml")
OWN = Run(Cell("digits", "resnet8", "pgd"), 0).name
SCOPE = "module-linear"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished experiment, which tests must not change."""
    folder = tmp_path_factory.mktemp("finished")
    for words in commands(folder, EXPERIMENT).values():
        rift(*words)
    return folder


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def flip(path: Path) -> None:
    """Flip a bit near the end, which is content in every format."""
    content = bytearray(path.read_bytes())
    content[-6] ^= 2
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


READERS = {
    layout.prepared("digits"): "train",
    layout.corrupted("digits", "contrast"): "ood base",
    layout.corrupted("digits", "contrast").replace(".npy", ".json"): "ood base",
    f"{OWN}/{layout.BASE}": "criticality",
    f"{OWN}/{layout.TRAINING}": "figure",
    f"{OWN}/{layout.CRITICALITY}": "finetune",
    f"{OWN}/{layout.finetuned(SCOPE)}": "interpolate",
    f"{OWN}/{layout.selected(SCOPE)}": f"standard {SCOPE}",
    f"{OWN}/{layout.selection(SCOPE)}": "table",
    f"{OWN}/{layout.outcomes('base', 'standard')}": "table",
    f"{OWN}/{layout.outcomes(SCOPE, 'ood')}": "table",
    f"{OWN}/{layout.outcomes(SCOPE, 'adversarial')}": "table",
}


def check_tables(folder: Path, finished: Path) -> None:
    """Make the table again, and check that its files are those of the undisturbed experiment."""
    words = commands(folder, EXPERIMENT)["table"]
    tables = [path for path in outputs(words) if not path.name.endswith(layout.LINEAGE)]
    for path in tables:
        path.unlink()
    rift(*words)
    assert len(tables) == 4
    for path in tables:
        assert path.read_bytes() == (finished / path.relative_to(folder)).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("damage", [truncate, flip, empty], ids=["truncated", "flipped", "empty"])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_artifact_stops_the_next_stage_and_whole_it_gives_the_same_bytes(
    name: str,
    damage: Callable[[Path], None],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Files of a report name no folders, so a copy gives the same bytes.
    folder = tmp_path / "results"
    shutil.copytree(finished, folder)
    words = commands(folder, EXPERIMENT)[READERS[name]]
    made = outputs(words)
    before = {path: path.read_bytes() for path in made}
    for path in made:
        path.unlink()
    whole = (folder / name).read_bytes()
    damage(folder / name)
    with pytest.raises(SystemExit, match="1"):
        rift(*words)
    message = capsys.readouterr().err
    assert str(folder / name) in message
    assert "Traceback" not in message
    assert not any(path.exists() for path in made)
    (folder / name).write_bytes(whole)
    rift(*words)
    changed = [path.name for path in made if path.read_bytes() != before[path]]
    # The history of a training contains its speed.
    assert set(changed) <= {"training.csv"}
    check_tables(folder, finished)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system, and return a function that mounts it with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")

    def again(options: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
        return folder

    yield again
    subprocess.run(["umount", str(folder)], check=True)


def moved_back(folder: Path, finished: Path, name: str, results: Path) -> Path:
    """Return a copy of finished results, with outputs of a command from another folder."""
    shutil.copytree(finished, results)
    for path in outputs(commands(results, EXPERIMENT)[name]):
        shutil.copyfile(folder / path.name, path)
    return results


def on(folder: Path, finished: Path, name: str) -> Words:
    """Return the words of a command that reads finished results and writes to another folder."""
    words = commands(finished, EXPERIMENT)[name]
    moved = {str(path): str(folder / path.name) for path in outputs(words)}
    return [moved.get(word, word) for word in words]


@pytest.mark.parametrize("name", ["train", "finetune", "prepare"])
def test_a_full_disk_is_one_line_and_with_space_it_goes_on_to_the_same_bytes(
    name: str,
    finished: Path,
    small_disk: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = small_disk("size=64k")
    words = on(folder, finished, name)
    with pytest.raises(SystemExit, match="1"):
        rift(*words)
    message = capsys.readouterr().err
    assert "cannot be written: No space left on device" in message
    assert "Traceback" not in message
    assert not [path for path in outputs(words) if path.suffix == ".safetensors" and path.exists()]
    small_disk("size=64m")
    rift(*words)
    expected = outputs(commands(finished, EXPERIMENT)[name])
    pairs = zip(outputs(words), expected, strict=True)
    changed = [path.name for path, other in pairs if path.read_bytes() != other.read_bytes()]
    assert set(changed) <= {"training.csv"}
    check_tables(moved_back(folder, finished, name, tmp_path / "results"), finished)


def test_results_that_cannot_be_written_are_found_before_the_computation(
    finished: Path,
    small_disk: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = small_disk("ro")
    words = on(folder, finished, "train")
    with pytest.raises(SystemExit, match="1"):
        rift(*words)
    message = capsys.readouterr().err
    assert "cannot be written: no permission" in message
    assert "computing on" not in message
    assert list(folder.iterdir()) == []
    small_disk("rw,size=64m")
    rift(*words)
    weights = folder / layout.BASE
    assert weights.read_bytes() == (finished / OWN / layout.BASE).read_bytes()
    check_tables(moved_back(folder, finished, "train", tmp_path / "results"), finished)
