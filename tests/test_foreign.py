"""Weights from elsewhere: what is read, what is refused, and that nothing in a file is run."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from rift import models
from rift.errors import RiftError
from rift.evaluation.accuracy import refuse_chance, trained_on
from rift.models import foreign


def fresh() -> nn.Module:
    return models.build("resnet8", classes=10, size=8, mean=(0.0,), std=(1.0,))


@pytest.fixture
def plain(prepared_model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a trained network as others would save it: without our normalisation."""
    state = prepared_model.state_dict()
    return {name: value.contiguous() for name, value in state.items() if not name.startswith("normalize.")}


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
    "normalisation before it": lambda state: {**prefixed(state, "1."), "0.mean": MEAN.view(1, 1, 1, 1), "0.std": STD},
    "mu and sigma around it": lambda state: {
        **prefixed(state, "module.model."),
        "module.mu": MEAN.view(1, 1, 1),
        "module.sigma": STD.view(1, 1, 1),
    },
    "half precision": lambda state: {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    },
    "without counters": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
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
    fitted = foreign.fit(foreign.read(path)[0], fresh(), str(path))
    inside = wrapping in ("normalisation before it", "mu and sigma around it")
    settled = foreign.normalization(fitted, None if inside else "none", (0.3,), (0.4,), "x")
    assert settled == (((0.25,), (0.5,), "file") if inside else ((0.0,), (1.0,), "none"))
    assert fitted.ignored == (("sub_block1.layer.0.conv1.weight",) if "unused" in wrapping else ())
    assert list(fitted.state) == list(plain)
    for name, value in plain.items():
        if "num_batches" not in name:
            assert fitted.state[name].dtype == value.dtype
            assert torch.allclose(fitted.state[name], value, rtol=1e-3 if "half" in wrapping else 0, atol=1e-6), name


def test_a_file_of_ours_is_read_with_its_normalisation(prepared_model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    save_file({name: value.contiguous() for name, value in prepared_model.state_dict().items()}, path)
    fitted = foreign.fit(foreign.read(path)[0], fresh(), "base")
    assert fitted.mean == pytest.approx(prepared_model.get_buffer("normalize.mean").tolist())


def test_normalisation_is_never_guessed(plain: dict[str, Tensor]) -> None:
    bare = foreign.fit(plain, fresh(), "x")
    with pytest.raises(RiftError, match=r"x\.pth: holds no normalisation; say with normalization: dataset or none"):
        foreign.normalization(bare, None, (0.3,), (0.4,), "x.pth")
    assert foreign.normalization(bare, "dataset", (0.3,), (0.4,), "x") == ((0.3,), (0.4,), "dataset")
    assert foreign.normalization(bare, "none", (0.3,), (0.4,), "x") == ((0.0,), (1.0,), "none")
    inside = foreign.fit(WRAPPINGS["normalisation before it"](plain), fresh(), "x")
    with pytest.raises(RiftError, match="holds its own normalisation; leave normalization: none away"):
        foreign.normalization(inside, "none", (0.3,), (0.4,), "x")
    with pytest.raises(RiftError, match=r"normalize\.mean is \(3,\) instead of \(1,\)"):
        foreign.fit({**plain, "normalize.mean": torch.zeros(3), "normalize.std": torch.ones(3)}, fresh(), "x")
    with pytest.raises(RiftError, match="holds only one of mean and standard deviation"):
        foreign.fit({**plain, "mean": MEAN}, fresh(), "x")


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
        (lambda _: b"\n<!DOCTYPE html><html><body>Google Drive - Virus scan warning</body></html>", "is a web page"),
        (lambda folder: packed(folder, "gzip"), "is a gzip archive: unpack it first"),
        (lambda folder: packed(folder, "tar"), "is a tar archive: unpack it first"),
        (lambda folder: packed(folder, "zip"), "is a zip archive, not weights: unpack it first"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "is a Git LFS pointer"),
        (lambda _: b"", "is damaged or not a file of torch.save"),
        (lambda _: b"\x80\x02garbage", "is not a file of tensors alone"),
    ],
)
def test_what_poses_as_weights_is_named(content: Callable[[Path], bytes], message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content(tmp_path))
    with pytest.raises(RiftError, match=message) as caught:
        foreign.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0x8B1F, 0x5A42])
def test_a_safetensors_file_is_told_from_archives_by_more_than_its_first_bytes(
    length: int, plain: dict[str, Tensor], tmp_path: Path
) -> None:
    """It begins with the length of its header, which may be the first bytes of a gzip or bzip2 file."""
    content = save(plain)
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + content[8 + len(header) :])
    assert foreign.read(path)[0].keys() == plain.keys()


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_cut_off_is_refused(ending: str, plain: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"weights.{ending}"
    torch.save(plain, path) if ending == "pth" else save_file(plain, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(RiftError, match="is damaged"):
        foreign.read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_and_not_run(
    zipped: bool, plain: dict[str, Tensor], tmp_path: Path
) -> None:
    marker = tmp_path / "was-run"
    torch.save(
        {"net": plain, "extra": Malicious(marker)}, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(RiftError, match=r"is not a file of tensors alone \(.*can run code, so it is not opened"):
        foreign.read(tmp_path / "weights.pth")
    assert not marker.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(fresh(), tmp_path / "weights.pt")
    with pytest.raises(RiftError, match=r"is not a file of tensors alone .*save model\.state_dict\(\)"):
        foreign.read(tmp_path / "weights.pt")


def test_what_the_weights_stand_under_is_said(plain: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": plain, "ema": plain, "optimizer": {"momentum": torch.ones(3, 3)}}, tmp_path / "x.pth")
    assert foreign.read(tmp_path / "x.pth")[1] == "model"
    assert foreign.read(tmp_path / "x.pth", "ema")[1] == "ema"


def test_several_state_dicts_want_a_key(plain: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"student": plain, "teacher": plain, "nested": {"ema": plain}}, tmp_path / "x.pth")
    with pytest.raises(
        RiftError, match=r"holds several state dicts; say which with key: student, teacher, nested\.ema"
    ):
        foreign.read(tmp_path / "x.pth")
    assert foreign.read(tmp_path / "x.pth", "nested.ema")[0].keys() == plain.keys()
    with pytest.raises(RiftError, match="holds no state dict under 'pupil'; it has: student"):
        foreign.read(tmp_path / "x.pth", "pupil")
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(RiftError, match=r"holds no state dict \(found dict\)"):
        foreign.read(tmp_path / "x.pth")


def test_weights_of_another_network_are_refused(plain: dict[str, Tensor]) -> None:
    other = models.build("resnet18", classes=10, size=8, mean=(0.0,), std=(1.0,))
    with pytest.raises(RiftError, match=r"x: does not fit: layer1\.1\.conv1\.weight is missing"):
        foreign.fit(plain, other, "x")
    with pytest.raises(RiftError, match=r"x: does not fit: attention\.weight is foreign"):
        foreign.fit({**plain, "attention.weight": torch.ones(2, 2)}, fresh(), "x")
    with pytest.raises(RiftError, match=r"linear\.weight is \(7, 64\) instead of \(10, 64\)"):
        foreign.fit({**plain, "linear.weight": torch.ones(7, 64)}, fresh(), "x")
    broken = plain["conv1.weight"].clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(RiftError, match=r"x: conv1\.weight holds values that are not finite"):
        foreign.fit({**plain, "conv1.weight": broken}, fresh(), "x")


def test_chance_is_refused_and_little_more_is_not() -> None:
    hits = torch.zeros(1000, dtype=torch.bool)
    hits[:147] = True
    with pytest.raises(
        RiftError,
        match=r"x: classifies 14\.70% of 1000 images correctly, .* chance \(10\.00%, or by luck up to 14\.74%\)",
    ):
        refuse_chance(hits, 10, "x")
    hits[147:149] = True
    refuse_chance(hits, 10, "x")


def test_images_that_were_trained_on_are_recognised() -> None:
    def hits(count: int) -> Tensor:
        return torch.arange(1000) < count

    assert trained_on(hits(1000), hits(927))  # the standard network of pyautoattack on training and test images
    assert not trained_on(hits(782), hits(770))  # a robust one on images that it was not trained on
    assert not trained_on(hits(700), hits(900))
