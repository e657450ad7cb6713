"""Weights of other programs: which files are read or refused; no code in a file is run."""

import argparse
import io
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from rift import models
from rift.data.images import Images
from rift.errors import RiftError
from rift.importing import Imported, ImportReport, check_imported
from rift.models import weight_files
from rift.models.checkpoint import ModelSpec


def fresh() -> nn.Module:
    return models.build("resnet8", classes=10, size=8, mean=(0.0,), std=(1.0,))


@pytest.fixture
def plain(prepared_model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a trained network without our normalisation, as others save it."""
    state = prepared_model.state_dict()
    return {
        name: value.contiguous()
        for name, value in state.items()
        if not name.startswith("normalize.")
    }


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


MEAN, STD = torch.tensor([0.25]), torch.tensor([0.5])
WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda state: state,
    "net": lambda state: {"net": state, "acc": 51.2, "epoch": 76},
    "state_dict, DataParallel": lambda state: {"state_dict": prefixed(state, "module."), "lr": 0.1},
    "model beside an optimiser": lambda state: {
        "model": state,
        "optimizer": {"state": {0: {"momentum": torch.ones(3, 3)}}},
    },
    "compiled": lambda state: {"model_state_dict": prefixed(state, "_orig_mod.")},
    "normalisation before it": lambda state: {
        **prefixed(state, "1."),
        "0.mean": MEAN.view(1, 1, 1, 1),
        "0.std": STD,
    },
    "mu and sigma around it": lambda state: {
        **prefixed(state, "module.model."),
        "module.mu": MEAN.view(1, 1, 1),
        "module.sigma": STD.view(1, 1, 1),
    },
    "half precision": lambda state: {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    },
    "without counters": lambda state: {
        name: value for name, value in state.items() if "num_batches" not in name
    },
    "MadryLab's robustness": lambda state: {
        "model": {
            **prefixed(state, "module.model."),
            **prefixed(state, "module.attacker.model."),
            **{
                f"module.{place}.new_{name}": value.view(1, 1, 1)
                for place in ("normalizer", "attacker.normalize")
                for name, value in (("mean", MEAN), ("std", STD))
            },
        },
        "epoch": 149,
    },
    "AveragedModel": lambda state: {
        "n_averaged": torch.tensor(5),
        **prefixed(state, "module."),
    },
    "Lightning with metrics": lambda state: {
        "state_dict": {
            **prefixed(state, "model."),
            "train_acc.total": torch.tensor(3),
            "train_acc.correct": torch.tensor([1.0, 2.0]),
            "confusion": torch.ones(10, 10, dtype=torch.long),
            "criterion.weight": torch.ones(10),
        },
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(3, 3)}}}],
        "loops": {"fit_loop": {"state_dict": {}}},
        "pytorch-lightning_version": "2.4.0",
    },
    "a tensor beside the state dict": lambda state: {
        "state_dict": state,
        "confusion": torch.ones(10, 10),
        "epoch": 3,
    },
    "metrics of numpy": lambda state: {
        "net": state,
        "acc": np.float64(0.5),
        "best": np.float32(0.5),
        "epoch": np.int64(3),
        "curve": np.ones(3),
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
    },
    "unused blocks of the official WideResNet": lambda state: {
        **state,
        "sub_block1.layer.0.conv1.weight": torch.ones(2, 2),
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_common_wrappings_give_the_same_network(
    wrapping: str, ending: str, plain: dict[str, Tensor], prepared_model: nn.Module, tmp_path: Path
) -> None:
    wrapped = WRAPPINGS[wrapping](plain)
    path = tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save(wrapped, path)
    elif all(isinstance(value, Tensor) for value in wrapped.values()):
        save_file(wrapped, path)
    else:
        pytest.skip("safetensors are not nested")
    fitted = weight_files.match_names(weight_files.read(path)[0], fresh(), str(path))
    inside = wrapping in (
        "normalisation before it",
        "mu and sigma around it",
        "MadryLab's robustness",
    )
    settled = weight_files.normalization(fitted, None if inside else "none", (0.3,), (0.4,), "x")
    assert settled == (((0.25,), (0.5,), "file") if inside else ((0.0,), (1.0,), "none"))
    assert fitted.others == ()
    if "unused" in wrapping:
        assert fitted.ignored == ("sub_block1.layer.0.conv1.weight",)
    elif wrapping == "AveragedModel":
        assert fitted.ignored == ("n_averaged",)
    elif wrapping == "Lightning with metrics":
        assert set(fitted.ignored) == {
            "train_acc.total",
            "train_acc.correct",
            "confusion",
            "criterion.weight",
        }
    assert list(fitted.state) == list(plain)
    for name, value in plain.items():
        if "num_batches" not in name:
            assert fitted.state[name].dtype == value.dtype
            assert torch.allclose(
                fitted.state[name], value, rtol=1e-3 if "half" in wrapping else 0, atol=1e-6
            ), name


def test_a_file_of_ours_is_read_with_its_normalisation(
    prepared_model: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "base.safetensors"
    save_file(
        {name: value.contiguous() for name, value in prepared_model.state_dict().items()}, path
    )
    fitted = weight_files.match_names(weight_files.read(path)[0], fresh(), "base")
    assert fitted.mean == pytest.approx(prepared_model.get_buffer("normalize.mean").tolist())


def test_normalisation_is_never_guessed(plain: dict[str, Tensor]) -> None:
    bare = weight_files.match_names(plain, fresh(), "x")
    with pytest.raises(
        RiftError,
        match=r"x\.pth: contains no normalisation; .*--normalization.* dataset for .*, none for",
    ):
        weight_files.normalization(bare, None, (0.3,), (0.4,), "x.pth")
    assert weight_files.normalization(bare, "dataset", (0.3,), (0.4,), "x") == (
        (0.3,),
        (0.4,),
        "dataset",
    )
    assert weight_files.normalization(bare, "none", (0.3,), (0.4,), "x") == ((0.0,), (1.0,), "none")
    inside = weight_files.match_names(WRAPPINGS["normalisation before it"](plain), fresh(), "x")
    with pytest.raises(
        RiftError, match="its own normalisation, and it is not none; omit normalization: none"
    ):
        weight_files.normalization(inside, "none", (0.3,), (0.4,), "x")
    assert inside.mean is not None
    assert inside.std is not None
    # A user may say what the file says.
    assert weight_files.normalization(inside, "dataset", inside.mean, inside.std, "x") == (
        inside.mean,
        inside.std,
        "file",
    )
    with pytest.raises(RiftError, match=r"normalize\.mean is \(3,\) instead of \(1,\)"):
        weight_files.match_names(
            {**plain, "normalize.mean": torch.zeros(3), "normalize.std": torch.ones(3)},
            fresh(),
            "x",
        )
    with pytest.raises(RiftError, match="contains only one of mean and standard deviation"):
        weight_files.match_names({**plain, "mean": MEAN}, fresh(), "x")


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def packed(folder: Path, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("readme.txt", "weights inside, one day")
    else:
        (folder / "readme.txt").write_text("weights")
        with tarfile.open(
            fileobj=buffer, mode="w:gz" if kind == "gzip" else "w", format=tarfile.USTAR_FORMAT
        ) as archive:
            archive.add(folder / "readme.txt", "readme.txt")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda _: (
                b"\n<!DOCTYPE html><html><body>Google Drive - Virus scan warning</body></html>"
            ),
            "is a web page",
        ),
        (lambda folder: packed(folder, "gzip"), "is a gzip archive: unpack it first"),
        (lambda folder: packed(folder, "tar"), "is a tar archive: unpack it first"),
        (lambda folder: packed(folder, "zip"), "is a zip archive, not weights: unpack it first"),
        (
            lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n",
            "is a Git LFS pointer",
        ),
        (lambda _: b"", "is damaged or not a file of torch.save"),
        (lambda _: b"\x80\x02garbage", "does not contain only tensors"),
    ],
)
def test_what_poses_as_weights_is_named(
    content: Callable[[Path], bytes], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content(tmp_path))
    with pytest.raises(RiftError, match=message) as caught:
        weight_files.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0x8B1F, 0x5A42])
def test_a_safetensors_file_is_told_from_archives_by_more_than_its_first_bytes(
    length: int, plain: dict[str, Tensor], tmp_path: Path
) -> None:
    """The length of its header comes first, and may look like the start of a gzip or bzip2 file."""
    content = save(plain)
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(
        length.to_bytes(8, "little") + header.ljust(length) + content[8 + len(header) :]
    )
    assert weight_files.read(path)[0].keys() == plain.keys()


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_cut_off_is_refused(ending: str, plain: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"weights.{ending}"
    torch.save(plain, path) if ending == "pth" else save_file(plain, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(RiftError, match="is damaged"):
        weight_files.read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_and_not_run(
    zipped: bool, plain: dict[str, Tensor], tmp_path: Path
) -> None:
    marker = tmp_path / "was-run"
    torch.save(
        {"net": plain, "extra": Malicious(marker)},
        tmp_path / "weights.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(
        RiftError, match=r"does not contain only tensors \(.*can run code, so it is not opened"
    ):
        weight_files.read(tmp_path / "weights.pth")
    assert not marker.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(fresh(), tmp_path / "weights.pt")
    with pytest.raises(
        RiftError, match=r"does not contain only tensors .*save model\.state_dict\(\)"
    ):
        weight_files.read(tmp_path / "weights.pt")


def test_what_the_weights_stand_under_is_said(plain: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(
        {"model": plain, "ema": plain, "optimizer": {"momentum": torch.ones(3, 3)}},
        tmp_path / "x.pth",
    )
    assert weight_files.read(tmp_path / "x.pth")[1] == "model"
    assert weight_files.read(tmp_path / "x.pth", "ema")[1] == "ema"


def test_several_state_dicts_want_a_key(plain: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"student": plain, "teacher": plain, "nested": {"ema": plain}}, tmp_path / "x.pth")
    with pytest.raises(
        RiftError,
        match=r"contains several state dicts; set key to one of: student, teacher, nested\.ema",
    ):
        weight_files.read(tmp_path / "x.pth")
    assert weight_files.read(tmp_path / "x.pth", "nested.ema")[0].keys() == plain.keys()
    with pytest.raises(
        RiftError, match="contains no state dict under 'pupil'; set key to one of: student"
    ):
        weight_files.read(tmp_path / "x.pth", "pupil")
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(RiftError, match=r"contains no state dict \(found dict\)"):
        weight_files.read(tmp_path / "x.pth")


def test_weights_of_another_network_are_refused(plain: dict[str, Tensor]) -> None:
    other = models.build("resnet18", classes=10, size=8, mean=(0.0,), std=(1.0,))
    with pytest.raises(RiftError, match=r"x: does not fit: layer1\.1\.conv1\.weight is missing"):
        weight_files.match_names(plain, other, "x")
    with pytest.raises(RiftError, match=r"x: does not fit: attention\.weight is unexpected"):
        weight_files.match_names({**plain, "attention.weight": torch.ones(2, 2)}, fresh(), "x")
    with pytest.raises(RiftError, match=r"linear\.weight is \(7, 64\) instead of \(10, 64\)"):
        weight_files.match_names({**plain, "linear.weight": torch.ones(7, 64)}, fresh(), "x")
    broken = plain["conv1.weight"].clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(RiftError, match=r"x: conv1\.weight contains values that are not finite"):
        weight_files.match_names({**plain, "conv1.weight": broken}, fresh(), "x")


class Fixed(nn.Module):
    """A network that reads the class from the first pixel of an image, in units of 1/255."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.one_hot((images[:, 0, 0, 0] * 255).round().long(), 10).float()


def reported(validation: int, test: int) -> ImportReport:
    """Return the report on a network that classifies ``hits`` of a thousand images correctly."""

    def split(hits: int) -> Images:
        # The label 0 is the correct one.
        answers = (torch.arange(1000) >= hits).to(torch.uint8)
        images = answers[:, None, None, None].expand(1000, 1, 8, 8)
        return Images.of(images, torch.zeros(1000, dtype=torch.int64))

    spec = ModelSpec("resnet8", 10, 8, (0.0,), (1.0,))
    imported = Imported(Fixed(), spec, {"normalization": {"from": "none"}})
    splits = {"validation": split(validation), "test": split(test)}
    return check_imported(imported, splits, like=spec, asked=None, source="x")


def test_chance_is_refused_and_little_more_is_not() -> None:
    with pytest.raises(
        RiftError,
        match=r"^x, normalization none: classifies 14\.70% of 1000 images correctly, .* chance"
        r" \(random guessing gives 10\.00% on average and up to 14\.74%\)",
    ):
        reported(147, 500)
    with pytest.raises(RiftError, match=r"classifies 14\.70%"):
        reported(500, 147)
    facts = reported(149, 149).facts()
    assert facts["accuracy"] == pytest.approx({"validation": 14.9, "test": 14.9})
    assert facts["images"] == {"validation": 1000, "test": 1000}


def test_images_that_were_trained_on_are_recognised() -> None:
    # These are the results of pyautoattack's standard network on training and test images.
    assert reported(1000, 927).trained_on_selection
    # These are the results of a robust network on images that it was not trained on.
    assert not reported(782, 770).trained_on_selection
    assert not reported(700, 900).trained_on_selection


def test_lightning_s_hyper_parameters_are_omitted(
    plain: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their class need not be installed to read the weights beside them."""
    module = types.ModuleType("lightning_fabric.utilities.data")
    cls = type("AttributeDict", (dict,), {"__module__": module.__name__})
    vars(module)["AttributeDict"] = cls
    with monkeypatch.context() as patch:
        for name in ("lightning_fabric", "lightning_fabric.utilities"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        content = {"state_dict": plain, "hyper_parameters": cls(lr=0.1, depth=18)}
        torch.save(content, tmp_path / "x.ckpt")
    assert weight_files.read(tmp_path / "x.ckpt").state.keys() == plain.keys()


def test_averaged_weights_are_reported_and_taken_by_their_key(
    plain: dict[str, Tensor], tmp_path: Path
) -> None:
    averaged = {
        name: value + 1 if value.is_floating_point() else value for name, value in plain.items()
    }
    layouts: list[tuple[dict[str, Any], str]] = [
        ({"state_dict": plain, "state_dict_ema": averaged}, "state_dict_ema"),
        ({**plain, "ema": averaged}, "ema"),
        ({**prefixed(plain, "model."), **prefixed(averaged, "ema.")}, "ema"),
        (
            {
                "state_dict": {
                    **prefixed(plain, "model."),
                    **prefixed(averaged, "model_ema.module."),
                }
            },
            "state_dict.model_ema.module",
        ),
    ]
    path = tmp_path / "x.pth"
    for content, key in layouts:
        torch.save(content, path)
        read = weight_files.read(path)
        fitted = weight_files.match_names(read.state, fresh(), "x")
        others = [
            *read.others,
            *(".".join(filter(None, [read.key, name])) for name in fitted.others),
        ]
        assert others == [key]
        assert torch.equal(fitted.state["conv1.weight"], plain["conv1.weight"])
        read = weight_files.read(path, key)
        fitted = weight_files.match_names(read.state, fresh(), "x")
        assert torch.equal(fitted.state["conv1.weight"], averaged["conv1.weight"])
    pair = {**prefixed(plain, "one."), **prefixed(averaged, "two.")}
    with pytest.raises(
        RiftError, match=r"contains several sets of weights; set key to .*: one, two"
    ):
        weight_files.match_names(pair, fresh(), "x")


def test_an_entry_that_could_change_the_logits_is_never_ignored(plain: dict[str, Tensor]) -> None:
    for name, value in {
        "model.scale": torch.tensor(2.0),
        "accent.weight": torch.ones(3, 3),
        "scale": torch.tensor(2.0),
        "model.extra.weight": torch.ones(3, 3, dtype=torch.int8),
        "extra.num_batches_tracked": torch.tensor(3),
    }.items():
        with pytest.raises(RiftError, match=r"x: does not fit: .* is unexpected"):
            weight_files.match_names({**prefixed(plain, "model."), name: value}, fresh(), "x")
    two = {"a.mean": MEAN, "a.std": STD, "b.mean": MEAN + 1}
    with pytest.raises(RiftError, match=r"x: a\.mean and b\.mean are different normalisations"):
        weight_files.match_names({**prefixed(plain, "model."), **two}, fresh(), "x")


STRANGE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "meta": (lambda value: value.to("meta"), "is on the meta device and has no values"),
    "sparse": (lambda value: value.to_sparse(), r"is not a dense tensor; save to_dense\(\)"),
    "quantised": (
        lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        r"is quantised; save dequantize\(\)",
    ),
    "int8": (lambda value: value.to(torch.int8), r"is torch\.int8 instead of torch\.float32"),
    "complex": (lambda value: value + 0j, r"is torch\.complex64 instead of torch\.float32"),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_numbers_are_refused(
    kind: str, plain: dict[str, Tensor], tmp_path: Path
) -> None:
    change, message = STRANGE[kind]
    changed = {
        name: change(value) if name == "conv1.weight" else value for name, value in plain.items()
    }
    torch.save({"net": changed}, tmp_path / "x.pth")
    state = weight_files.read(tmp_path / "x.pth").state
    with pytest.raises(RiftError, match=rf"^x: conv1\.weight {message}"):
        weight_files.match_names(state, fresh(), "x")


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_the_content_of_a_file_decides_how_it_is_read(
    ending: str, plain: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"x.{ending}"
    save_file(plain, path) if ending == "pth" else torch.save(plain, path)
    found = weight_files.read(path).state
    assert found.keys() == plain.keys()
    assert all(torch.equal(value, found[name]) for name, value in plain.items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_named(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "x.pt")
    with pytest.raises(RiftError, match=r"x\.pt: is TorchScript.*: load it with torch\.jit\.load"):
        weight_files.read(tmp_path / "x.pt")
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "x.pt2")
    with pytest.raises(RiftError, match=r"x\.pt2: is a program of torch\.export"):
        weight_files.read(tmp_path / "x.pt2")
