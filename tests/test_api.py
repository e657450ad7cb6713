"""RiFT for Python: ``rift.improve`` and its steps."""

import copy
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import binomtest
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rift
from rift import artifacts, config, data, finetuning, interpolation
from rift.criticality import adversarial_examples, module_robust_criticality, modules_of
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.state import snapshot
from rift.training.history import Trained
from tests.reporting.drawn import points

ATTACK = config.Attack(eps=0.05, step=0.02, steps=2)
CRITICALITY = config.Criticality(images=64, steps=2, restarts=1, trial_images=16)
FINETUNE = config.Finetune(epochs=2, learning_rate=0.02)
AUGMENT = config.Augment(crop=1, flip=False)
INTERPOLATE = config.Interpolate(alphas=(0, 0.5, 1), images=100, restarts=1, tolerance=3)
FAST: dict[str, Any] = {
    "attack": ATTACK,
    "criticality": CRITICALITY,
    "finetune": FINETUNE,
    "augment": AUGMENT,
    "interpolate": INTERPOLATE,
    "pgd": {"restarts": 1},
    "progress": False,
}


@pytest.fixture(scope="module")
def splits(prepared: data.Prepared) -> dict[str, Any]:
    limits = {"train": 256, "validation": 200, "test": 150}
    return {name: prepared.split(name).up_to(count) for name, count in limits.items()}


@pytest.fixture(scope="module")
def base(prepared_model: nn.Module) -> nn.Module:
    """Return a network that fine-tuning can improve: it prefers some classes."""
    model = copy.deepcopy(prepared_model)
    model.get_parameter("linear.bias").data[:5] -= 4
    return model


@pytest.fixture(scope="module")
def result(base: nn.Module, splits: dict[str, Any]) -> rift.Result:
    return rift.improve(base, **splits, **FAST)


def pair_of(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    return images.floats(), images.labels


def accuracy(model: nn.Module, images: Images) -> float:
    with torch.no_grad():
        hits = model(images.floats()).argmax(1) == images.labels
    return 100 * float(hits.double().mean())


def everything(model: nn.Module) -> list[object]:
    """Return all that a caller can see of a network, in a form that can be compared."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [
        [(name, value.detach().numpy().tobytes()) for name, value in tensors],
        [(name, id(value)) for name, value in tensors],
        [
            (name, None if weight.grad is None else weight.grad.numpy().tobytes())
            for name, weight in model.named_parameters()
        ],
        [(name, weight.requires_grad) for name, weight in model.named_parameters()],
        [(name, module.training) for name, module in model.named_modules()],
        [
            (name, [*module._forward_hooks.values()], [*module._forward_pre_hooks.values()])
            for name, module in model.named_modules()
        ],
    ]


def used(model: nn.Module, images: Images) -> nn.Module:
    """Return a copy in the middle of some work: with gradients, hooks and mixed modes."""
    mine = copy.deepcopy(model).train()
    layers = dict(mine.named_modules())
    layers["layer2.0"].eval()
    layers["layer1.0.conv1"].requires_grad_(False)
    layers["linear"].register_forward_hook(lambda module, given, output: None)
    mine(images.up_to(8).floats()).sum().backward()
    return mine


@pytest.mark.parametrize(
    "step", ["improve", "mrc", "fine_tune", "sweep", "interpolate", "evaluate"]
)
def test_the_given_network_and_torch_are_as_before(
    step: str, base: nn.Module, splits: dict[str, Any]
) -> None:
    mine = used(base, splits["train"])
    tuned = Trained(snapshot(base), [], 1)
    train, validation, test = splits.values()
    quiet: dict[str, Any] = {"progress": False}
    calls: dict[str, Callable[[], object]] = {
        "improve": lambda: rift.improve(mine, train, validation, test=test, **FAST),
        "mrc": lambda: rift.mrc(mine, train, attack=ATTACK, criticality=CRITICALITY, **quiet),
        "fine_tune": lambda: rift.fine_tune(
            mine, train, validation, "linear", finetune=FINETUNE, augment=AUGMENT, **quiet
        ),
        "sweep": lambda: rift.sweep(
            mine, tuned, validation, attack=ATTACK, interpolate=INTERPOLATE, **quiet
        ),
        "interpolate": lambda: rift.interpolate(mine, tuned, 0.5),
        "evaluate": lambda: rift.evaluate(mine, test, attack=ATTACK, **quiet),
    }
    before, numbers = everything(mine), torch.get_rng_state()
    with torch.no_grad():  # as in a notebook with gradients off
        calls[step]()
        assert not torch.is_grad_enabled()
    assert everything(mine) == before
    assert torch.equal(torch.get_rng_state(), numbers)


def test_the_result_is_that_of_the_core(
    base: nn.Module, splits: dict[str, Any], result: rift.Result
) -> None:
    train, validation, _ = splits.values()
    some = train.up_to(64)
    adversarial = adversarial_examples(base, some, attack=ATTACK, seed=0)
    table = module_robust_criticality(base, adversarial, some.labels, settings=CRITICALITY, seed=0)
    modules = modules_of("rift", table)
    theta = snapshot(base)
    tuned = finetuning.fine_tune(
        copy.deepcopy(base),
        train,
        validation,
        modules,
        settings=FINETUNE,
        augmentation=AUGMENT,
        seed=0,
    )
    points = interpolation.sweep(
        base,
        theta,
        tuned.state,
        validation.up_to(100),
        settings=INTERPOLATE,
        attack=ATTACK,
        seed=0,
    )
    chosen = interpolation.choose(points, theta, tuned.state, tolerance=3)
    pd.testing.assert_frame_equal(result.mrc, pd.DataFrame(table))
    assert result.modules == modules
    assert result.history["standard_accuracy"].tolist() == [
        row.standard_accuracy for row in tuned.history
    ]
    assert result.history.loc[result.history["kept"], "epoch"].tolist() == [tuned.kept]
    assert result.sweep.to_numpy().tolist() == [
        [point.alpha, point.standard_accuracy, point.adversarial_accuracy] for point in points
    ]
    assert result.alpha == chosen.selected.alpha > 0
    assert result.gained
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, chosen.state[name]), name


def test_accuracies_and_intervals_are_those_of_the_test_images(
    base: nn.Module, splits: dict[str, Any], result: rift.Result
) -> None:
    row = result.accuracy.set_index("metric").loc["clean"]
    assert (row["split"], row["images"]) == ("test", 150)
    before, after = (accuracy(model, splits["test"]) for model in (base, result.model))
    assert row["before"] == pytest.approx(before)
    assert row["after"] == pytest.approx(after)
    assert row["change"] == pytest.approx(after - before)
    assert after > before
    old, new = (result.outcomes[name]["clean"].to_numpy() for name in ("before", "after"))
    drawn = np.random.default_rng(5).integers(0, 150, (4000, 150))
    resampled = 100 * (new * 1.0 - old)[drawn].mean(axis=1)
    assert [row["low"], row["high"]] == pytest.approx(
        np.quantile(resampled, [0.025, 0.975]).tolist(), abs=0.7
    )
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    assert row["p"] == pytest.approx(binomtest(gained, gained + lost).pvalue)
    summary = result.summary()
    assert summary.startswith(f"RiFT fine-tuned {result.modules[0]} of 10 modules")
    assert f"{before:.2f}% -> {after:6.2f}%" in summary
    assert "on 150 test images" in summary


def test_steps_by_hand_give_the_same_network(
    base: nn.Module, splits: dict[str, Any], result: rift.Result
) -> None:
    train, validation, _ = splits.values()
    quiet: dict[str, Any] = {"progress": False}
    table = rift.mrc(base, train, attack=ATTACK, criticality=CRITICALITY, **quiet)
    tuned = rift.fine_tune(
        base, train, validation, table, finetune=FINETUNE, augment=AUGMENT, **quiet
    )
    points = rift.sweep(base, tuned, validation, attack=ATTACK, interpolate=INTERPOLATE, **quiet)
    better = rift.interpolate(base, tuned, rift.select(points, tolerance=3))
    for name, value in better.state_dict().items():
        assert torch.equal(value, result.model.state_dict()[name]), name


@pytest.mark.parametrize("kind", ["tensors", "arrays", "dataset", "loader"])
def test_every_type_of_images_gives_the_same_result(
    kind: str, base: nn.Module, splits: dict[str, Any], result: rift.Result
) -> None:
    makers: dict[str, Callable[[Images], Any]] = {
        "tensors": pair_of,
        "arrays": lambda images: tuple(part.numpy() for part in pair_of(images)),
        "dataset": lambda images: TensorDataset(*pair_of(images)),
        "loader": lambda images: DataLoader(TensorDataset(*pair_of(images)), batch_size=48),
    }
    given = {name: makers[kind](images) for name, images in splits.items()}
    other = rift.improve(base, **given, **FAST)
    pd.testing.assert_frame_equal(other.accuracy, result.accuracy)
    for name, value in other.model.state_dict().items():
        assert torch.equal(value, result.model.state_dict()[name]), name


def test_sections_can_be_dicts(
    base: nn.Module, splits: dict[str, Any], result: rift.Result
) -> None:
    sections: dict[str, Any] = {
        name: section.model_dump(exclude_unset=True)
        if isinstance(section, config.Section)
        else section
        for name, section in FAST.items()
    }
    other = rift.improve(base, **splits, **sections)
    pd.testing.assert_frame_equal(other.sweep, result.sweep)


def test_if_nothing_is_gained_the_base_is_returned_and_it_says_so(
    base: nn.Module, splits: dict[str, Any]
) -> None:
    still = config.Finetune(epochs=1, learning_rate=1e-12, batch_norm="frozen")
    found = rift.improve(base, **splits, **{**FAST, "finetune": still})
    assert not found.gained
    assert found.alpha == 0
    assert found.summary().startswith("Nothing gained: ")
    assert "Nothing gained" in found._repr_html_()
    assert found.accuracy["change"].tolist() == [0, 0]
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, base.state_dict()[name]), name


def test_without_test_images_the_selection_split_is_named(
    base: nn.Module, splits: dict[str, Any], result: rift.Result
) -> None:
    found = rift.improve(base, splits["train"], splits["validation"], **FAST)
    assert set(found.accuracy["split"]) == {"selection"}
    chosen = found.sweep.set_index("alpha").loc[found.alpha]
    assert found.accuracy["after"].tolist() == [*chosen]
    assert found.accuracy[["low", "high", "p"]].isna().to_numpy().all()
    assert "on the 100 validation images on which alpha was selected" in found.summary()
    assert "validation images on which α was selected" in found._repr_html_()
    pd.testing.assert_frame_equal(found.sweep, result.sweep)


def test_saved_results_can_be_read_by_torch_and_pandas(
    base: nn.Module, splits: dict[str, Any], result: rift.Result, tmp_path: Path
) -> None:
    result.save(tmp_path / "better")
    mine = copy.deepcopy(base)
    mine.load_state_dict(load_file(tmp_path / "better/model.safetensors"))
    images = splits["test"].floats()
    assert torch.equal(mine(images), result.model(images))
    for name, table in (
        ("mrc", result.mrc),
        ("finetuning", result.history),
        ("sweep", result.sweep),
        ("accuracy", result.accuracy),
    ):
        read = pd.read_csv(tmp_path / f"better/{name}.csv", comment="#")
        pd.testing.assert_frame_equal(read, table)
    source = artifacts.read_provenance(tmp_path / "better/sweep.csv")
    assert source["settings"]["attack"]["eps"] == 0.05
    page = (tmp_path / "better/summary.html").read_text()
    assert f"RiFT fine-tuned {result.modules[0]} of 10 modules" in page
    assert page.count("data:image/png;base64,") == 1
    first = {path.name: path.read_bytes() for path in (tmp_path / "better").iterdir()}
    result.save(tmp_path / "better")
    assert {path.name: path.read_bytes() for path in (tmp_path / "better").iterdir()} == first


def test_a_selection_with_a_confidence_needs_the_errors_of_the_points() -> None:
    points = pd.DataFrame(
        {
            "alpha": [0.0, 1.0],
            "standard_accuracy": [80.0, 82.0],
            "adversarial_accuracy": [50.0, 50.3],
            "adversarial_error": [0.0, 0.25],
        }
    )
    # The upper limit of the loss is 0.11 points at 95%, and 0.02 at 90%.
    assert [rift.select(points, 0.1, level) for level in (None, 0.95, 0.9)] == [1, 0, 1]
    with pytest.raises(RiftError, match="confidence needs the column"):
        rift.select(points.drop(columns="adversarial_error"), 0.1, 0.9)


def test_the_plot_shows_the_sweep_and_the_selected_point(result: rift.Result) -> None:
    plane, above, _ = result.plot().axes
    first = result.sweep.iloc[0]
    drawn = [points(line).tolist() for line in plane.lines]
    changes = result.sweep.drop(columns="alpha") - first.drop("alpha")
    assert changes[["adversarial_accuracy", "standard_accuracy"]].to_numpy().tolist() in drawn
    # A notebook shows the picture, also if the program does not use pyplot.
    figure: Any = result.plot()
    assert figure._repr_png_().startswith(b"\x89PNG")
    stars = [line for line in above.lines if line.get_marker() == "*"]
    assert [line.get_xdata() for line in stars] == [[result.alpha]]


class Tied(nn.Module):
    """A network with a shared weight, and one that an old hook computes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.weight_norm(nn.Linear(64, 64))
        self.second = nn.Linear(64, 64)
        self.third = nn.Linear(64, 64)
        self.third.weight = self.second.weight
        self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.first(images.flatten(1)).relu()
        logits: torch.Tensor = self.head(self.third(self.second(hidden).relu()).relu())
        return logits


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_shared_and_computed_weights_are_copied_and_saved(
    splits: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    mine = Tied()
    mine(splits["train"].up_to(2).floats())
    found = rift.improve(mine, **splits, **FAST, modules=2)
    assert len(found.modules) == 2
    assert found.model.get_parameter("second.weight") is found.model.get_parameter("third.weight")
    found.save(tmp_path)
    loaded = Tied()
    loaded.load_state_dict(load_file(tmp_path / "model.safetensors"))
    images = splits["test"].floats()
    torch.testing.assert_close(loaded(images), found.model(images))


def test_more_modules_are_the_least_critical_ones(base: nn.Module, splits: dict[str, Any]) -> None:
    found = rift.improve(base, **splits, **FAST, modules=3)
    assert found.modules == found.mrc.nsmallest(3, "rank")["module"].tolist()
    with pytest.raises(RiftError, match="the scope needs 11 modules"):
        rift.improve(base, **splits, **FAST, modules=11)


class Scores(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.inside(images)}


def test_problems_are_refused_with_a_reason(base: nn.Module, splits: dict[str, Any]) -> None:
    train, validation, test = splits.values()
    pixels, labels = pair_of(train)
    wrong: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("returns a dict with the keys logits", (Scores(base), train, validation), {}),
        ("network: is a str; pass a torch.nn.Module", ("resnet8", train, validation), {}),
        (
            r"train: images: floats must be in \[0, 1\]",
            (base, (255 * pixels, labels), validation),
            {},
        ),
        ("train: labels: are missing", (base, pixels, validation), {}),
        ("train: has 3 parts", (base, (pixels, labels, 1), validation), {}),
        ("validation: contains no image", (base, train, validation.up_to(0)), {}),
        ("validation: 256 of its 256 images are also in train", (base, train, train), {}),
        (
            "validation: 256 of its 256 images are also in train",
            (base, (pixels, labels), (pixels.clone(), labels.clone())),
            {},
        ),
        (
            "test: 200 of its 200 images are also in validation; pass images that decide nothing",
            (base, train, validation),
            {"test": validation},
        ),
        (
            "test: 100 of its 150 images are also in train",
            (base, train.take(slice(100)), validation),
            {"test": (torch.cat([pixels[:100], pair_of(test)[0][:50]]), labels.repeat(2)[:150])},
        ),
        (
            "test: network: cannot process images of shape",
            (base, train, validation),
            {"test": (torch.rand(8, 3, 8, 8), labels[:8])},
        ),
        (
            "validation: labels: contain 10, but the network has 10 logits",
            (base, train, (torch.rand(8, 1, 8, 8), labels[:8] * 0 + 10)),
            {},
        ),
        (
            r"test: has images of shape \(1, 16, 16\), but train has \(1, 8, 8\)",
            (base, train, validation),
            {"test": (torch.rand(8, 1, 16, 16), labels[:8])},
        ),
        ("modules: is 'conv1'; .*takes names", (base, train, validation), {"modules": "conv1"}),
        ("budget: is 300; it must be text with", (base, train, validation), {"budget": 300}),
        (
            "pass test, or omit autoattack",
            (base, train, validation),
            {"autoattack": True},
        ),
        ("modules: is 0", (base, train, validation), {"modules": 0}),
        (
            "settings: 2 problems\n  attack.epsilon: is not a key .*\n  finetune.epochs: ",
            (base, train, validation),
            {"attack": {"epsilon": 0.1}, "finetune": {"epochs": 0}},
        ),
        (
            "criticality.split: has no effect here",
            (base, train, validation),
            {"criticality": {"split": "test"}},
        ),
        (
            "interpolate.images: is 201, but the split has 200",
            (base, train, validation),
            {"interpolate": {"images": 201}},
        ),
    ]
    for message, given, more in wrong:
        with pytest.raises(RiftError, match=message):
            rift.improve(*given, **{**FAST, **more})
    with pytest.raises(RiftError, match="labels: contain 9, but the network has 5 logits"):
        rift.evaluate(
            nn.Sequential(OrderedDict(flat=nn.Flatten(), last=nn.Linear(64, 5))),
            test,
            progress=False,
        )


def test_autoattack_is_a_column_of_its_own(base: nn.Module, splits: dict[str, Any]) -> None:
    some = splits["test"].up_to(16)
    strong = {"eps": 0.2, "step": 0.1, "steps": 2}
    found = rift.evaluate(base, some, attack=strong, autoattack=True, progress=False)
    assert list(found) == ["clean", "pgd", "autoattack"]
    assert (found["clean"] | ~found["autoattack"]).all()
    assert found["autoattack"].mean() < found["clean"].mean()
    assert found["clean"].mean() * 100 == pytest.approx(accuracy(base, some))


def test_progress_is_shown_and_can_be_switched_off(
    base: nn.Module,
    splits: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = splits["train"]
    sections: dict[str, Any] = {"attack": ATTACK, "criticality": CRITICALITY}
    rift.mrc(base, train, **sections, progress=False)
    assert capsys.readouterr() == ("", "")
    rift.mrc(base, train, **sections)
    assert "mrc: 10/10" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    rift.mrc(base, train, **sections)
    assert "mrc 100%|" in capsys.readouterr().err


def test_the_package_lists_its_functions_and_does_not_import_torch() -> None:
    program = (
        "import sys, rift; assert set(rift.__all__) <= set(dir(rift)); assert 'torch' not in"
        " sys.modules; assert callable(rift.improve); assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="module 'rift' has no attribute 'improves'"):
        _ = rift.improves


def test_weights_of_another_network_and_positions_outside_are_refused(
    base: nn.Module, splits: dict[str, Any]
) -> None:
    train, validation, _ = splits.values()
    how: dict[str, Any] = {"finetune": {"epochs": 1}, "progress": False}
    tuned = rift.fine_tune(base, train, validation, "linear", **how)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for call in (
        lambda: rift.sweep(other, tuned, validation),
        lambda: rift.interpolate(other, tuned, 1),
    ):
        with pytest.raises(RiftError, match=r"tuned: 1\.bias differs from that of the network"):
            call()
    outside: tuple[Any, ...] = ("a", 5.0, float("nan"), -0.1, True)
    for alpha in outside:
        with pytest.raises(RiftError, match=r"alpha: is .*a number from 0"):
            rift.interpolate(base, tuned, alpha)
    with pytest.raises(RiftError, match="modules: is empty"):
        rift.fine_tune(base, train, validation, [], **how)
    with pytest.raises(RiftError, match="validation: network: cannot process images of shape"):
        rift.sweep(base, tuned, (torch.rand(4, 3, 8, 8), torch.arange(4)), progress=False)
