"""Figures: what they show, computed again from the artifacts, and whether it can be read on paper."""

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy import stats

from rift import artifacts, data
from rift.config import Corrupt, CorruptionName, FigureName, Grid
from rift.data import corrupted
from rift.errors import RiftError
from rift.reporting.figures import FIGURES, draw
from rift.reporting.figures.pareto import Point, front
from rift.reporting.figures.style import COLOURS, DOUBLE, SINGLE
from rift.statistics import Delta, paired_delta

SOURCE = artifacts.provenance({})
SCOPES = ("rift", "robust-critical", "all-layers", "last-layer", "top2", "top3", "top5", "module-layer1.0.conv2")
CORRUPTIONS: tuple[CorruptionName, ...] = ("gaussian_noise", "elastic_transform", "jpeg_compression")
IMAGES = 80


def modules(count: int) -> list[str]:
    return [f"layer{1 + number // 8}.{number // 2 % 4}.conv{1 + number % 2}" for number in range(count)]


def grid(seeds: tuple[int, ...] = (0, 1, 2), **changed: Any) -> Grid:
    content = {"datasets": ("digits",), "architectures": ("resnet18",), "seeds": seeds, "scopes": SCOPES}
    return Grid.model_validate({**content, "autoattack": ("base", "rift"), **changed})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prepared: data.Prepared) -> Path:
    """Results of three seeds and nine variants, networks of 21 (resnet18) and of 104 modules (resnet34)."""
    folder, rng = tmp_path_factory.mktemp("figures"), np.random.default_rng(0)
    data.save(folder / "data/digits/prepared.safetensors", prepared, SOURCE)
    for name in CORRUPTIONS:
        split = corrupted.corrupted_test_split(prepared, name, Corrupt(images=1, source="generated"), folder)
        corrupted.save(folder / f"data/digits/corrupted/{name}.npy", split, prepared.labels["test"], SOURCE)
    for architecture, count in (("resnet18", 21), ("resnet34", 104)):
        for seed in (0, 1, 2):
            make_run(folder / f"runs/digits/{architecture}/pgd/seed{seed}", count, rng)
    return folder


def make_run(run: Path, count: int, rng: np.random.Generator) -> None:
    mrc = np.exp(rng.normal(-2, 1, count))
    mrc[3] = 0.0
    measured = {
        "module": modules(count),
        "kind": "conv",
        "parameters": 100,
        "mrc": mrc,
        "mrc_error": 0.05 * mrc + 0.001,
    }
    ranks = {"robust_accuracy_drop": 20 * mrc, "rank": mrc.argsort().argsort() + 1, "tied": False}
    artifacts.write_csv(run / "criticality.csv", pd.DataFrame({**measured, **ranks}), SOURCE)
    accuracy = 30 + np.sqrt(np.arange(30.0))
    history: dict[str, Any] = {
        "epoch": range(1, 31),
        "learning_rate": [0.1] * 20 + [0.01] * 10,
        "kept": [n == 21 for n in range(30)],
    }
    for start, gain in (("", 0), ("train_", 5)):
        history |= {f"{start}standard_accuracy": accuracy + 30 + gain, f"{start}adversarial_accuracy": accuracy + gain}
    artifacts.write_csv(run / "training.csv", pd.DataFrame(history), SOURCE)
    base = {"standard": rng.random(IMAGES) < 0.8, "pgd": rng.random(IMAGES) < 0.5, "autoattack": rng.random(40) < 0.4}
    after: dict[str, Any] = {name: rng.random((5, IMAGES)) < 0.6 for name in CORRUPTIONS}
    for variant in ("base", *SCOPES):
        changed = variant != "base"
        outcome = {name: values ^ (changed & (rng.random(len(values)) < 0.08)) for name, values in base.items()}
        folder = run / "evaluation" / variant
        artifacts.write_outcomes(folder / "standard.npz", {"standard": outcome["standard"]}, SOURCE)
        attacked = {
            name: outcome[name] for name in ("pgd", "autoattack") if name == "pgd" or variant in ("base", "rift")
        }
        artifacts.write_outcomes(folder / "adversarial.npz", attacked, SOURCE)
        # Noise is passed more often after fine-tuning, by every image; of the others as many lose as gain.
        shown = {name: values | (changed and name == CORRUPTIONS[0]) for name, values in after.items()}
        artifacts.write_outcomes(folder / "ood.npz", shown, SOURCE)
        if changed:
            sweep = pd.DataFrame({"alpha": [0, 0.5, 1]})
            for kind, level, gain in (("standard", 80, 2), ("adversarial", 50, -1)):
                sweep[f"{kind}_accuracy"] = rng.normal(level, 3) + sweep["alpha"] * rng.normal(gain, 1, 3)
            artifacts.write_csv(run / variant / "sweep.csv", sweep, SOURCE)
            choice = {"alpha": 0.5, "selection": "validation", "images": 40, "tolerance": 0.25, "restarts": 3}
            artifacts.write_json(run / variant / "selection.json", choice, SOURCE)
            taken = {"modules": [modules(count)[int(mrc.argmin())] if variant == "rift" else modules(count)[2]]}
            artifacts.write_arrays(run / variant / "finetuned.safetensors", {"weight": np.zeros(1)}, SOURCE, **taken)


def texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """All that can be read on a figure, and where it stands in inches."""
    shown = {text for text in figure.findobj(Text) if isinstance(text, Text)}
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                # Those past the ends of an axis are there, but not drawn.
                shown -= {tick.label2} if low <= tick.get_loc() <= high else {tick.label1, tick.label2}
    # Of a panel that is not shown, neither are the texts.
    shown = {text for text in shown if text.get_visible() and (text.axes is None or text.axes.get_visible())}
    boxes = {text: text.get_window_extent().get_points() / figure.dpi for text in shown if text.get_text().strip()}
    return [(text, Bbox(box)) for text, box in boxes.items()]


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)], ids=len)
@pytest.mark.parametrize("architecture", ["resnet18", "resnet34"])
@pytest.mark.parametrize("name", FIGURES)
def test_everything_can_be_read_at_the_size_of_a_column(
    name: FigureName, architecture: str, seeds: tuple[int, ...], folder: Path
) -> None:
    figure = draw(name, folder, grid(seeds, architectures=(architecture,)))
    width, height = figure.get_size_inches()
    assert width in (SINGLE, DOUBLE)
    assert height <= 9
    found = texts(figure)
    assert len(found) > 5
    for text, box in found:
        assert float(text.get_fontsize()) >= 6, text
        assert min(box.x0, box.y0) > -0.01, text
        assert box.x1 < width + 0.01, text
        assert box.y1 < height + 0.01, text
    for (one, here), (other, there) in combinations(found, 2):
        # A box is a little higher than what is written in it.
        both = Bbox.intersection(here, there)
        assert both is None or min(both.width, both.height) < 0.02, (one.get_text(), other.get_text())


def hex_of(colour: Any) -> str:
    return to_hex(to_rgba_array(colour)[0]).upper()


def drawn_as(figure: Figure, panel: int, name: str) -> list[Line2D]:
    """Lines and points of a panel in the colour of a scope."""
    return [line for line in figure.axes[panel].lines if hex_of(line.get_color()) == COLOURS[name]]


def points(line: Line2D) -> Any:
    return np.column_stack([np.asarray(values, dtype=float) for values in line.get_data()])


def sweeps(folder: Path, scope: str) -> Any:
    """Changes of accuracies from the base: seeds × points × (adversarial, standard)."""
    runs = [folder / f"runs/digits/resnet18/pgd/seed{seed}/{scope}/sweep.csv" for seed in (0, 1, 2)]
    tables = [pd.read_csv(run, comment="#")[["adversarial_accuracy", "standard_accuracy"]].to_numpy() for run in runs]
    return np.stack([table - table[0] for table in tables])


def test_interpolation_shows_means_of_changes_bands_choices_and_what_is_not_allowed(folder: Path) -> None:
    figure = draw("interpolation", folder, grid())
    changes = sweeps(folder, "rift")
    mean, *_ = drawn_as(figure, 0, "rift")
    np.testing.assert_allclose(points(mean), changes.mean(axis=0))
    stars = [points(line)[0] for line in drawn_as(figure, 0, "rift") if line.get_marker() == "*"]
    np.testing.assert_allclose(stars, changes[:, 1])
    for panel, column in ((1, 1), (2, 0)):
        bands: Any = [
            part for part in figure.axes[panel].collections if hex_of(part.get_facecolor()) == COLOURS["rift"]
        ]
        (band,) = bands
        corners = np.asarray(band.get_paths()[0].vertices)
        for alpha, values in zip((0, 0.5, 1), changes[:, :, column].T, strict=True):
            low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values)) if values.any() else (0, 0)
            at = corners[corners[:, 0] == alpha, 1]
            assert (at.min(), at.max()) == (pytest.approx(low), pytest.approx(high))
        assert [
            points(line)[0, 0] for line in drawn_as(figure, panel, "rift") if line.get_marker() == "*"
        ] == pytest.approx([0.5] * 3, abs=0.1)
    (limit,) = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert set(points(limit)[:, 0]) == {-0.25}
    (limit,) = [line for line in figure.axes[2].lines if line.get_linestyle() == ":"]
    assert set(points(limit)[:, 1]) == {-0.25}


def test_interpolation_of_two_seeds_shows_their_range_and_of_one_no_band(folder: Path) -> None:
    said = [text.get_text() for text in draw("interpolation", folder, grid((0, 1))).legends[0].get_texts()]
    assert "range of both seeds" in said
    alone = draw("interpolation", folder, grid((0,)))
    assert not [part for axis in alone.axes[1:] for part in axis.collections]


def copy_without(folder: Path, target: Path, *patterns: str) -> Path:
    """Link the results of another folder, but for some files."""
    left_out = {path for pattern in patterns for path in folder.glob(pattern)}
    assert left_out
    for path in folder.rglob("*"):
        if path.is_file() and path not in left_out:
            link = target / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
    return target


def test_what_was_not_run_yet_is_left_out_and_said(folder: Path, tmp_path: Path) -> None:
    part = copy_without(
        folder, tmp_path, "runs/*/*/*/*/last-layer/*", "runs/*/*/*/seed2/all-layers/*", "runs/*/*/*/*/evaluation/top5/*"
    )
    said = [text.get_text() for text in draw("interpolation", part, grid()).legends[0].get_texts()]
    assert "last layer" not in said
    assert "all layers (2 of 3 seeds)" in said
    assert "last layer" not in [text.get_text() for text in draw("criticality", part, grid()).legends[0].get_texts()]
    said = [text.get_text() for text in draw("pareto", part, grid()).legends[0].get_texts()]
    assert "5 least critical" not in said
    assert "3 least critical" in said


@pytest.mark.parametrize(
    ("name", "left_out", "missing"),
    [
        ("interpolation", "runs/**/sweep.csv", r"seed0/rift/sweep\.csv: does not exist; run the stage that writes it"),
        ("criticality", "runs/**/criticality.csv", r"seed0/criticality\.csv: does not exist"),
        ("corruptions", "runs/**/ood.npz", r"seed0/evaluation/base/ood\.npz: does not exist"),
        ("pareto", "runs/**/adversarial.npz", r"seed0/evaluation/base/adversarial\.npz: does not exist"),
        ("training", "runs/**/training.csv", r"seed0/training\.csv: does not exist"),
        ("contact-sheet", "data/digits/corrupted/*.npy", "holds no corrupted images"),
    ],
)
def test_a_figure_of_what_is_missing_is_refused(
    name: FigureName, left_out: str, missing: str, folder: Path, tmp_path: Path
) -> None:
    part = copy_without(folder, tmp_path, left_out)
    with pytest.raises(RiftError, match=missing):
        draw(name, part, grid())


@pytest.mark.parametrize(("name", "file"), [("pareto", "adversarial"), ("corruptions", "ood")])
def test_outcomes_of_other_examples_are_not_drawn_beside_each_other(
    name: FigureName, file: str, folder: Path, tmp_path: Path
) -> None:
    part = copy_without(folder, tmp_path, f"runs/**/seed1/evaluation/*/{file}.npz")
    for variant, examples in (("base", "a"), ("rift", "b")):
        path = Path(f"runs/digits/resnet18/pgd/seed1/evaluation/{variant}/{file}.npz")
        source = artifacts.provenance({"examples": examples})
        artifacts.write_outcomes(part / path, artifacts.read_outcomes(folder / path), source)
    with pytest.raises(RiftError, match=rf"rift/{file}\.npz: cannot be compared with .* examples b instead of a"):
        draw(name, part, grid(seeds=(1,)))


def outcomes(folder: Path, variant: str, file: str, name: str) -> Any:
    runs = [folder / f"runs/digits/resnet18/pgd/seed{seed}/evaluation/{variant}/{file}.npz" for seed in (0, 1, 2)]
    return np.stack([artifacts.read_outcomes(run)[name].astype(float) for run in runs])


def test_pareto_shows_accuracies_and_intervals_of_all_variants(folder: Path) -> None:
    figure = draw("pareto", folder, grid())
    assert [axis.get_xlabel() for axis in figure.axes] == [
        "accuracy under PGD (%), 80 images",
        "accuracy under AutoAttack (%), 40 images",
    ]
    for panel, attack in enumerate(("pgd", "autoattack")):
        across, up, place = drawn_as(figure, panel, "rift")
        standard, robust = (
            (outcomes(folder, v, "standard", "standard"), outcomes(folder, v, "adversarial", attack))
            for v in ("base", "rift")
        )
        assert points(place).tolist() == [[100 * robust[1].mean(), 100 * robust[0].mean()]]
        for line, column, number in ((across, 0, 1), (up, 1, 0)):
            delta, base = paired_delta(standard[number], robust[number]), 100 * standard[number].mean()
            np.testing.assert_allclose(points(line)[:, column], [base + delta.low, base + delta.high])
    assert len(drawn_as(figure, 0, "all-layers")) == 3
    assert not drawn_as(figure, 1, "all-layers")
    assert len(draw("pareto", folder, grid(autoattack=())).axes) == 1


def test_no_variant_passes_the_front() -> None:
    rng = np.random.default_rng(0)
    none = Delta(0, 0, 0)
    for _ in range(50):
        known = [Point("base", float(a), float(b), none, none, 1) for a, b in rng.integers(0, 6, (8, 2))]
        best = {(point.robust, point.standard) for point in front(known)}
        at_least = [
            {(o.robust, o.standard) for o in known if o.robust >= p.robust and o.standard >= p.standard} for p in known
        ]
        assert best == {(p.robust, p.standard) for p, o in zip(known, at_least, strict=True) if len(o) == 1}


def test_corruptions_shows_differences_with_intervals_and_which_may_be_chance(folder: Path) -> None:
    right = draw("corruptions", folder, grid()).axes[1]
    marks = [line for line in right.lines if line.get_marker() == "D"]
    written = [text.get_text() for text in right.texts]
    base, rift = (
        {name: outcomes(folder, v, "ood", name).mean(axis=1) for name in CORRUPTIONS} for v in ("base", "rift")
    )
    rows = [(base[name], rift[name]) for name in CORRUPTIONS]
    rows.append((sum(base.values()) / 3, sum(rift.values()) / 3))
    for (before, after), mark, text in zip(rows, marks, written, strict=True):
        expected = 100 * (after.mean() - before.mean())
        assert points(mark)[0, 0] == pytest.approx(expected)
        assert float(text.replace("−", "-")) == pytest.approx(expected, abs=0.006)
    assert expected > 10
    assert [mark.get_markerfacecolor() == "white" for mark in marks] == [False, True, True, False]


def test_every_module_is_named_once_however_many_there_are(folder: Path) -> None:
    for architecture, count, named in (("resnet18", 21, [21, 0]), ("resnet34", 104, [52, 52])):
        figure = draw("criticality", folder, grid(architectures=(architecture,)))
        labels = [[text.get_text() for text in axis.get_yticklabels()] for axis in figure.axes]
        assert [len(names) for names in labels] == named
        assert labels[0] + labels[1] == modules(count)
        least = drawn_as(figure, 0, "rift")
        assert len(least) == 3
        assert {line.get_markerfacecolor() for line in least} == {"white"}  # they did not rise
        assert math.isclose(points(least[0])[0, 1], 3, abs_tol=0.5)
