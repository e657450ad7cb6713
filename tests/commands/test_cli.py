import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import torch
from pydantic import BaseModel
from torch import nn

from rift import __version__, artifacts, config, data, models
from rift.artifacts import provenance, write_csv
from rift.artifacts.resume import resumable
from rift.artifacts.states import write_state
from rift.commands import main as command_line
from rift.commands.command import Command
from rift.commands.doctor import examine
from rift.commands.experiment import Run
from rift.commands.train import Train
from rift.config import data_root
from rift.errors import RiftError
from rift.models import checkpoint, export
from rift.progress import display
from tests.commands.parsing import TRAIN_FILES, parse_command

RIFT = (sys.executable, "-c", "from rift.commands.main import main; main()")


def rift(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RIFT, *map(str, words)], capture_output=True, text=True, check=False, cwd=cwd
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prepared: data.Prepared) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    data.save(folder / "digits.safetensors", prepared, provenance("test", {}))
    return folder


def test_help_does_not_wait_for_torch() -> None:
    program = (
        "import sys\n"
        "from rift.commands.main import main\n"
        "for words in ('', 'train', 'evaluate adversarial', 'merge criticality', 'table'):\n"
        "    sys.argv = ['rift', *words.split(), '--help']\n"
        "    try: main()\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "unneeded = {'torch', 'pandas', 'matplotlib', 'numpy'}\n"
        "assert not unneeded & set(sys.modules), 'help imports what it does not need'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def commands(
    model: type[BaseModel], *path: str
) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Yield every command and every group of commands below a model."""
    for name, field in model.model_fields.items():
        words = (*path, field.alias or name)
        for kind in get_args(field.annotation):
            if issubclass(kind, BaseModel):
                yield words, kind
                if not issubclass(kind, Command):
                    yield from commands(kind, *words)


@pytest.mark.parametrize(("words", "command"), [*commands(command_line.Rift)])
def test_every_field_of_every_command_is_a_flag_with_a_description(
    words: tuple[str, ...], command: type[BaseModel]
) -> None:
    text = rift(*words, "--help").stdout
    assert " ".join((command.__doc__ or "").split()) in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "{{" not in text
    for name, field in command.model_fields.items() if issubclass(command, Command) else ():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            assert f"--{name}." in text
        else:
            position = rf" \[?{name.upper()}\]?\n"
            positional = name in ("name", "folder", "config", "path")
            flag = f"--{field.alias or name}"
            assert re.search(position if positional else rf"{flag}[ ,\]]", text)
            assert field.description


def test_help_names_the_choices_that_do_not_fit_beside_a_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse_command("figure", "--help")
    text = " ".join(capsys.readouterr().out.split())
    for name in get_args(config.FigureName) + get_args(config.ArchitectureName):
        assert name in text


@pytest.mark.parametrize(
    "words",
    [
        ["--dry-run"],
        ["--dry-run", "x.yaml"],
        ["--dry_run", "yes"],
        ["--dry-run=true"],
        ["--dry_run"],
    ],
)
def test_a_flag_may_have_hyphens_and_a_switch_no_value(words: list[str]) -> None:
    command = parse_command("run", *words)
    assert isinstance(command, Run)
    assert command.dry_run
    assert command.config == Path("x.yaml" if "x.yaml" in words else "config/config.yaml")


def test_a_switch_can_be_switched_off_and_its_neighbours_keep_their_values() -> None:
    options = "--dry-run --keep-going"
    command = parse_command("run", "--raw", "false", f"--snakemake={options}", "--dry-run")
    assert isinstance(command, Run)
    assert (command.raw, command.snakemake, command.dry_run) == (False, options, True)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_command("--version")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"rift {__version__}\n"


def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object
) -> str:
    """Return the message of a command that is refused."""
    monkeypatch.setattr(sys, "argv", ["rift", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        command_line.main()
    assert end.value.code in (1, 2)
    return capsys.readouterr().err


def test_missing_keys_of_a_section_are_named_as_flags(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(capsys, monkeypatch, "figure", "pareto", "--results", "r").splitlines() == [
        "rift figure: 3 problems",
        "  --grid.datasets: is missing; add it",
        "  --grid.architectures: is missing; add it",
        "  --output: is missing; add it",
    ]


def test_a_gpu_on_a_machine_without_one_is_refused_in_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = refused(capsys, monkeypatch, *train_words(folder, tmp_path, "--device", "cuda:0"))
    assert said == (
        "rift: error: --device cuda:0: cannot be used (torch finds no GPU on this machine); pass"
        " --device cpu, or run rift doctor\n"
    )


def test_a_state_of_other_settings_is_refused_by_the_names_of_flags(tmp_path: Path) -> None:
    begun = {
        "version": 1,
        "seed": 0,
        "settings": {"train": {"epochs": 3}, "regime": "pgd"},
        "inputs": {"data": "a" * 64},
    }
    now = {
        "version": 2,
        "seed": 1,
        "settings": {"train": {"epochs": 4}, "regime": "trades"},
        "inputs": {"data": "b" * 64},
    }
    write_state(tmp_path / "x.state", {"begun_with": begun, "run": {}})
    with pytest.raises(RiftError) as caught, resumable(tmp_path / "x", now):
        pass
    for part in (
        "the version of the stage (was 1, now 2)",
        "--seed (was 0, now 1)",
        "--train.epochs (was 3, now 4)",
        "--regime (was pgd, now trades)",
        f"--data (was content {'a' * 12}, now content {'b' * 12})",
    ):
        assert part in str(caught.value)


def test_wrong_flags_are_all_said_at_once(tmp_path: Path) -> None:
    answer = rift(
        "train",
        "--data",
        "d",
        "--train.epochs",
        "0",
        "--attack.eps",
        "2",
        "--output",
        "o",
        cwd=tmp_path,
    )
    assert answer.returncode == 2
    assert answer.stderr.splitlines() == [
        "rift train: 5 problems",
        "  --architecture: is missing; add it",
        "  --train.epochs: Input should be greater than or equal to 1 (found '0')",
        "  --attack.eps: is 2, but pixel values are in [0, 1]; choose at most 1 for linf, such as"
        " 8/255, or set attack.norm to l2 (found '2')",
        "  --output: the name must end in .safetensors; change its ending (found 'o')",
        "  --history: is missing; add it",
    ]
    assert list(tmp_path.iterdir()) == []


def test_settings_of_another_regime_are_refused(tmp_path: Path) -> None:
    files = [
        "--data",
        "d",
        "--output",
        tmp_path / "o.safetensors",
        "--history",
        tmp_path / "h.csv",
        "--architecture",
        "resnet8",
    ]
    answer = rift(
        "train", *files, "--regime", "pgd", "--trades.beta", 3, "--mart.beta", 2, cwd=tmp_path
    )
    assert answer.returncode == 2
    assert answer.stderr.splitlines() == [
        "rift train: 1 problem",
        "  --mart.beta, --trades.beta: not a setting of regime pgd",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["tain"],
        ["evaluate"],
        ["evaluate", "odd"],
        ["merge"],
        ["merge", "odd"],
        ["train", "--train.epoch", "3"],
        ["table", "nope"],
        ["train", "--seed", "99999999999999999999999"],
        ["train", "--attack.eps", "1e999"],
        ["evaluate", "adversarial", "--attacks", "[]"],
        ["criticality", "--base", "b", "--data", "d", "--output", "table.txt"],
        ["criticality", "--base", "b", "--data", "d", "--output", "t.csv", "--shard", "1/2"],
    ],
)
def test_unknown_words_are_refused_without_a_traceback(words: list[str]) -> None:
    answer = rift(*words)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert answer.stderr.strip()


def train_words(folder: Path, to: Path, *more: object) -> list[object]:
    where = [
        "--data",
        folder / "digits.safetensors",
        "--output",
        to / "base.safetensors",
        "--history",
        to / "training.csv",
    ]
    small = [
        "--train.epochs",
        1,
        "--attack.steps",
        1,
        "--attack.eps",
        0.1,
        "--augment.crop",
        1,
        "--augment.flip",
        "false",
    ]
    return ["train", "--architecture", "resnet8", *where, *small, *more]


def test_the_same_seed_gives_the_same_bytes_twice(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        answer = rift(*train_words(folder, tmp_path / name, "--seed", 3))
        assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "a/base.safetensors").read_bytes() == (
        tmp_path / "b/base.safetensors"
    ).read_bytes()
    histories = [artifacts.read_csv(tmp_path / name / "training.csv", ()) for name in ("a", "b")]
    timeless = [history.drop(columns=["seconds", "images_per_second"]) for history in histories]
    assert timeless[0].equals(timeless[1])
    assert "epoch 1 kept" in answer.stderr
    assert "train: 1/1 " in answer.stderr


def test_a_killed_training_leaves_no_weights(folder: Path, tmp_path: Path) -> None:
    words = train_words(folder, tmp_path / "run", "--train.epochs", 500)
    with subprocess.Popen([*RIFT, *map(str, words)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "train: 2/500" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "run/base.safetensors").exists()
    assert (tmp_path / "run/base.safetensors.state").exists()


def test_training_begins_with_the_weights_of_init(
    folder: Path, tmp_path: Path, prepared_model: nn.Module
) -> None:
    """The learning rate is too small to change a weight, so training ends where it began."""
    plain = tmp_path / "plain.pth"
    torch.save({"state_dict": export.plain_state(prepared_model)}, plain)
    still = ["--train.learning_rate", 1e-30, "--train.weight_decay", 0, "--train.init", plain]
    untold = rift(*train_words(folder, tmp_path / "untold", *still))
    assert untold.returncode == 1
    assert "normalization" in untold.stderr
    told = rift(
        *train_words(folder, tmp_path / "told", *still, "--train.init_normalization", "dataset")
    )
    assert told.returncode == 0, told.stderr
    model, _ = checkpoint.load(tmp_path / "told/base.safetensors")
    expected = prepared_model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.named_parameters())
    again = rift(
        *train_words(folder, tmp_path / "again", *still[:-1], tmp_path / "told/base.safetensors")
    )
    # Weight files of rift contain their architecture.
    assert again.returncode == 0, again.stderr

    alone = rift(*train_words(folder, tmp_path / "alone", "--train.init_normalization", "none"))
    assert alone.returncode == 2
    assert "--train.init_normalization requires --train.init" in alone.stderr


def test_a_training_logs_to_tensorboard_what_its_history_says(folder: Path, tmp_path: Path) -> None:
    answer = rift(*train_words(folder, tmp_path, "--train.tensorboard", "true"))
    assert answer.returncode == 0, answer.stderr
    (row,) = artifacts.read_csv(tmp_path / "training.csv", ()).to_dict("records")
    program = (
        "import json, sys\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "events = EventAccumulator(sys.argv[1])\n"
        "events.Reload()\n"
        "names = events.Tags()['scalars']\n"
        "print(json.dumps({name: events.Scalars(name)[0].value for name in names}))\n"
    )
    reading = [sys.executable, "-c", program, str(tmp_path / "tensorboard")]
    logged = json.loads(subprocess.run(reading, capture_output=True, text=True, check=True).stdout)
    assert set(logged) == set(row) - {"epoch", "kept"}
    assert logged == pytest.approx({name: row[name] for name in logged}, rel=1e-6)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB.",
        "[enforce fail at alloc_cpu.cpp:127] err == 0."
        " DefaultCPUAllocator: can't allocate memory: you tried to.",
        "could not create a memory object",
        "std::bad_alloc",
    ],
)
def test_too_little_memory_says_which_setting_to_lower(
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def train(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(message)

    monkeypatch.setattr("rift.training.trainer.train", train)
    monkeypatch.setattr(sys, "argv", ["rift", *map(str, train_words(folder, tmp_path))])
    with pytest.raises(SystemExit) as end:
        command_line.main()
    assert end.value.code == 1
    assert (
        "out of memory; lower --train.batch_size, or raise --train.accumulate"
        in capsys.readouterr().err
    )


def test_every_process_wants_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    launched: list[int] = []
    monkeypatch.setattr(
        "rift.training.parallel.launch", lambda processes, _words: launched.append(processes)
    )

    def train(processes: int, device: str) -> None:
        words = ("train", "--data", "d", "--architecture", "resnet8")
        outputs = ("--output", "o.safetensors", "--history", "h.csv")
        how = ("--train.processes", str(processes), "--device", device)
        parse_command(*words, *outputs, *how).run()

    train(2, "auto")
    train(3, "cpu")
    assert launched == [2, 3]
    with pytest.raises(RiftError, match="there are 2 GPUs, and each process needs one"):
        train(3, "auto")
    with pytest.raises(RiftError, match="do not pass --device cuda:1"):
        train(2, "cuda:1")
    assert launched == [2, 3]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--regime", "trades-awp", "--trades.beta", "3", "--inner.method", "n-fgsm"],
        ["--regime", "mart", "--attack.eps", "8/255", "--train.milestones", "[]", "--seed", "4"],
        [
            "--train.init",
            "a b.pth",
            "--train.init_normalization",
            "none",
            "--augment.flip",
            "false",
        ],
    ],
)
def test_the_arguments_of_a_command_give_the_same_command(words: list[str]) -> None:
    """Training starts its processes with these arguments."""
    command = parse_command("train", *TRAIN_FILES, *words)
    assert isinstance(command, Train)
    assert parse_command("train", *command.arguments()) == command


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda content: content[:-1000], "is damaged or not of the expected format"),
        (
            lambda _: b"<!DOCTYPE html><html>Not found</html>",
            "is damaged or not of the expected format",
        ),
        (lambda _: None, "does not exist; check the path, or run the stage that writes it"),
    ],
)
def test_damaged_input_stops_a_stage_before_it_writes(
    damage: Callable[[bytes], bytes | None], problem: str, folder: Path, tmp_path: Path
) -> None:
    content = damage((folder / "digits.safetensors").read_bytes())
    if content is not None:
        (tmp_path / "digits.safetensors").write_bytes(content)
    answer = rift(*train_words(tmp_path, tmp_path / "run"))
    assert answer.returncode == 1
    (message,) = [line for line in answer.stderr.splitlines() if "error" in line]
    assert message.startswith(f"rift: error: {tmp_path / 'digits.safetensors'}: {problem}")
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.glob("run/*"))


def test_a_results_folder_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a folder")
    answer = rift(*train_words(folder, tmp_path / "run"))
    assert answer.returncode == 1
    assert answer.stderr.splitlines() == [
        f"rift: error: {tmp_path / 'run' / 'base.safetensors'}: cannot be written:"
        f" {tmp_path / 'run'} is not a folder; choose another path"
    ]


@pytest.mark.parametrize("link", [False, True])
def test_an_output_never_replaces_an_input(link: bool, folder: Path, tmp_path: Path) -> None:
    data = folder / "digits.safetensors"
    output = tmp_path / "link.safetensors" if link else data
    if link:
        output.symlink_to(data)
    before = data.read_bytes()
    commands = (
        ("export", "--weights", data, "--output", output),
        (
            "import",
            "--weights",
            data,
            "--data",
            data,
            "--architecture",
            "resnet8",
            "--output",
            output,
            "--manifest",
            tmp_path / "m.json",
        ),
        (
            "train",
            "--data",
            data,
            "--architecture",
            "resnet8",
            "--history",
            tmp_path / "h.csv",
            "--output",
            output,
        ),
        (
            "train",
            "--data",
            tmp_path / "d",
            "--architecture",
            "resnet8",
            "--train.init",
            data,
            "--history",
            tmp_path / "h.csv",
            "--output",
            output,
        ),
    )
    for words in commands:
        answer = rift(*words)
        assert answer.returncode == 1
        assert answer.stderr == (
            f"rift: error: {output}: is an input, which the output would replace; choose another"
            " path for the output\n"
        )
    assert data.read_bytes() == before


def test_one_path_for_two_outputs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    answer = rift(
        *["table", "main", "--grid.datasets", "digits", "--grid.architectures", "resnet8"],
        "--results",
        tmp_path,
        "--output",
        f"{path},{path}",
    )
    assert answer.returncode == 1
    assert answer.stderr == (
        f"rift: error: {path}: is the path of two outputs; choose different paths\n"
    )
    assert not path.exists()


def test_an_import_says_which_normalization_would_be_better(
    folder: Path, tmp_path: Path, prepared_model: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network was trained behind the data set's normalisation, or behind that of MNIST."""
    data_set = folder / "digits.safetensors"
    mean, std = (prepared_model.get_buffer(f"normalize.{name}") for name in ("mean", "std"))
    plain = export.plain_state(prepared_model)
    # The first layer is rewritten, so that the network takes images normalised as those of MNIST.
    first = plain["conv1.weight"]
    other = {**plain, "conv1.weight": first * (0.3081 / std)}
    other["bn1.running_mean"] = plain["bn1.running_mean"] - (0.1307 - mean) / std * first.sum(
        (1, 2, 3)
    )
    torch.save({"net": plain}, tmp_path / "dataset.pth")
    torch.save({"net": other}, tmp_path / "mnist.pth")

    def imported(right: str, said: str) -> tuple[dict[str, Any], str]:
        words = ["--architecture", "resnet8", "--data", data_set, "--normalization", said]
        out = ["--output", tmp_path / "base.safetensors", "--manifest", tmp_path / "base.json"]
        words = [*words, *out, "--weights", tmp_path / f"{right}.pth"]
        command_line.run(parse_command("import", *map(str, words)))
        assert str(tmp_path) not in (tmp_path / "base.json").read_text()
        return artifacts.read_json(tmp_path / "base.json"), capsys.readouterr().err

    best = 0.0
    for right, numbers in (("dataset", None), ("mnist", "0.1307/0.3081")):
        found, said = imported(right, right)
        assert found["better_normalization"] is None
        assert "check --normalization" not in said
        assert found["key"] == "net"
        best = best or found["accuracy"]["validation"]
        assert found["accuracy"]["validation"] == pytest.approx(best, abs=0.3)
        if numbers is not None:
            assert imported(right, numbers)[0]["accuracy"] == found["accuracy"]
        wrong, said = imported(right, "none")
        assert wrong["better_normalization"] == right
        assert wrong["accuracy_with_other_normalizations"][right] == pytest.approx(best, abs=0.3)
        assert f"with --normalization {right}, the network classifies" in said
        assert "check --normalization none" in said
        assert wrong["accuracy"]["validation"] < best


def test_settings_of_an_import_that_do_nothing_are_refused(tmp_path: Path) -> None:
    files = [
        "--data",
        tmp_path / "d",
        "--output",
        tmp_path / "o.safetensors",
        "--manifest",
        tmp_path / "m.json",
    ]
    answer = rift(
        "import", "--weights", "robustbench:X", "--architecture", "resnet18", "--key", "ema", *files
    )
    assert answer.returncode == 2
    assert (
        "RobustBench networks include their normalisation; remove normalization and key"
        in answer.stderr
    )


@pytest.mark.parametrize("words", [(), ("--source", "imagenet", "--data", "d.safetensors")])
def test_an_import_is_for_a_data_set_or_for_a_source(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ("--weights", "w.pth", "--output", "b.safetensors", "--manifest", "b.json")
    message = refused(capsys, monkeypatch, "import", *files, "--architecture", "resnet8", *words)
    assert "either --data or --source is needed; name the prepared data set" in message


@pytest.mark.parametrize(("classes", "size"), [(7, 8), (10, 16)])
def test_a_model_for_other_data_is_refused(
    classes: int, size: int, folder: Path, tmp_path: Path
) -> None:
    spec = checkpoint.ModelSpec("resnet8", classes, size, (0.5,), (0.5,))
    model = models.build(**asdict(spec))
    checkpoint.save(
        tmp_path / "other.safetensors", model.state_dict(), spec, provenance("test", {})
    )
    out = ["--output", tmp_path / "o.json", "--outcomes", tmp_path / "o.npz"]
    answer = rift(
        "evaluate",
        "standard",
        "--weights",
        tmp_path / "other.safetensors",
        "--data",
        folder / "digits.safetensors",
        *out,
    )
    assert answer.returncode == 1
    data = folder / "digits.safetensors"
    ours, theirs = (
        f"{classes} classes and images of 1×{size}×{size}",
        "10 classes and images of 1×8×8",
    )
    assert f"is for {ours}, but {data} has {theirs}" in answer.stderr
    assert not (tmp_path / "o.json").exists()


@pytest.mark.parametrize(("stage", "warned"), [("train", True), ("import", False)])
def test_another_cut_of_the_data_is_said(
    stage: str, warned: bool, prepared: data.Prepared, folder: Path, tmp_path: Path
) -> None:
    """A network knows its training images; weights from outside are checked by their import."""
    own, other = folder / "digits.safetensors", tmp_path / "other.safetensors"
    again = data.prepare("digits", config.Data(validation=0.2, test=0.2, seed=1))
    data.save(other, again, provenance("test", {}))
    spec = checkpoint.ModelSpec("resnet8", 10, 8, prepared.mean, prepared.std)
    state = models.build(**asdict(spec)).state_dict()
    weights, out = tmp_path / "base.safetensors", tmp_path / "o.json"
    trained = provenance(stage, {}, inputs={"data": artifacts.content_digest(own)})
    checkpoint.save(weights, state, spec, trained)
    words = ("evaluate", "standard", "--weights", weights, "--output", out)
    for given in (own, other):
        answer = rift(*words, "--outcomes", tmp_path / "o.npz", "--data", given)
        assert answer.returncode == 0
        told = f"{weights} was not trained on {given}, but on another prepared set"
        assert (told in answer.stderr) == (warned and given == other)


@pytest.mark.parametrize("device", ["cuda:17", "meta", "abacus"])
def test_a_device_that_is_not_there_is_refused(device: str, folder: Path, tmp_path: Path) -> None:
    answer = rift(*train_words(folder, tmp_path / "run", "--device", device))
    assert answer.returncode == 1
    assert f"rift: error: --device {device}: cannot be used" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_criticality_table_of_another_network_is_refused(
    folder: Path, tmp_path: Path, prepared_model: nn.Module
) -> None:
    spec = checkpoint.ModelSpec("resnet8", 10, 8, (0.3,), (0.4,))
    checkpoint.save(
        tmp_path / "base.safetensors", prepared_model.state_dict(), spec, provenance("test", {})
    )
    row = {"module": "conv1", "kind": "conv", "parameters": 144, "mrc": 0.1, "mrc_error": 0.01}
    table = pd.DataFrame(
        [{**row, "robust_loss": 1.0, "robust_accuracy_drop": 0.5, "rank": 1, "tied": True}]
    )
    write_csv(tmp_path / "criticality.csv", table, provenance("test", {}))
    out = [
        "--output",
        tmp_path / "o.safetensors",
        "--history",
        tmp_path / "o.csv",
        "--scope",
        "rift",
    ]
    inputs = ["--base", tmp_path / "base.safetensors", "--data", folder / "digits.safetensors"]
    answer = rift("finetune", *inputs, "--criticality", tmp_path / "criticality.csv", *out)
    assert answer.returncode == 1
    assert f"criticality.csv: is not the table of {tmp_path / 'base.safetensors'}" in answer.stderr
    assert not (tmp_path / "o.csv").exists()


def test_doctor_says_what_is_there_and_what_to_do(repository: Path, tmp_path: Path) -> None:
    answer = rift("doctor", cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout
    for word in ("Python", "torch", "pyautoattack", "snakemake", "precision", "data root"):
        assert word in answer.stdout
    # Two extras contain robustbench, but the report names it once.
    assert answer.stdout.count("robustbench ") == 1


def test_doctor_says_how_to_add_every_extra(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", not_installed)
    monkeypatch.setenv("COLUMNS", "400")
    assert not examine(tmp_path)
    advice = capsys.readouterr().out
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(re.findall(r"-e '\.\[(\w+)\]', if you need \w", advice)) == set(extras)


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with display("stage") as progress:
        for number in range(5):
            progress(number + 1, 5, loss=0.25)
        progress(5, 5, "all done", accuracy=81.46)
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["stage: 5/5  0 s  all done  accuracy 81.46"]

    program = (
        "from rift.progress import display\n"
        "with display('stage') as progress:\n"
        "    progress(1, 2, loss=0.25); progress(2, 2, 'epoch 1', loss=0.125)\n"
    )
    terminal, child = pty.openpty()
    subprocess.run([sys.executable, "-c", program], stderr=child, check=True)
    time.sleep(0.2)
    shown = os.read(terminal, 100_000).decode()
    assert "stage: epoch 1" in shown
    assert "━" in shown
    assert "loss 0.125" in shown


@pytest.mark.real
@pytest.mark.long
def test_the_standard_network_of_pyautoattack_is_imported_and_breaks(tmp_path: Path) -> None:
    """A negative control: without adversarial training, a network is accurate but not robust."""
    if not (data_root(None) / "cifar-10-batches-py").is_dir():
        pytest.skip("cifar-10-batches-py does not lie under the data root (RIFT_DATA)")
    data, base = tmp_path / "prepared.safetensors", tmp_path / "base.safetensors"
    weights = Path(str(files("pyautoattack"))) / "examples" / "model_test.pt"
    rift("prepare", "--dataset", "cifar10", "--output", data, "--manifest", tmp_path / "m.json")
    words = [
        "--architecture",
        "resnet18",
        "--data",
        data,
        "--output",
        base,
        "--manifest",
        tmp_path / "i.json",
    ]
    answer = rift("import", "--weights", weights, *words)
    assert "model_test.pt: contains no normalisation; say with which one" in answer.stderr
    assert not base.exists()
    answer = rift("import", "--weights", weights, "--normalization", "none", *words)
    assert re.search(
        r"classifies 100\.00% of 1000 validation images and 9[2-5]\.\d+% of 1000 test images",
        answer.stderr,
    )
    assert "more accurate on the validation images than on the test images" in answer.stderr

    outputs = ["--output", tmp_path / "o.json", "--outcomes", tmp_path / "o.npz"]
    common = ["--weights", base, "--data", data, *outputs]
    rift("evaluate", "standard", *common, "--evaluate.standard.images", "1000")
    assert 92 <= artifacts.read_json(tmp_path / "o.json")["accuracy"] <= 95
    rift(
        "evaluate",
        "adversarial",
        *common,
        "--attacks",
        "autoattack",
        "--evaluate.autoattack.images",
        "20",
    )
    result = artifacts.read_json(tmp_path / "o.json")["autoattack"]
    assert (result["accuracy"], result["images"]) == (0.0, 20)
