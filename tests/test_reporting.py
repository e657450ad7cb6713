import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any, get_args

import jinja2
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rift import artifacts, data
from rift.config import (
    Corrupt,
    CorruptionName,
    FigureName,
    Grid,
    RegimeName,
    ScheduleName,
    Scope,
    TableName,
    Train,
    Variant,
    parse,
)
from rift.data import corrupted
from rift.errors import RiftError
from rift.reporting import published
from rift.reporting.figures import draw, save_figure
from rift.reporting.formats import write_table
from rift.reporting.results import METRICS, Cell, Results
from rift.reporting.statistics import accuracy, paired_delta
from rift.reporting.tables import TABLES
from rift.training.schedules import SCHEDULES

SOURCE = artifacts.provenance({})


def test_an_interval_is_that_of_the_normal_approximation_where_there_are_many_images() -> None:
    """The mean of 4,000 independent differences: standard error in closed form."""
    rng = np.random.default_rng(1)
    base, variant = rng.random((1, 4000)) < 0.80, rng.random((1, 4000)) < 0.83
    delta = paired_delta(base.astype(float), variant.astype(float))
    difference = 100 * (variant.astype(float) - base)
    half = 1.96 * difference.std() / np.sqrt(4000)
    assert delta.mean == pytest.approx(difference.mean())
    assert delta.low == pytest.approx(difference.mean() - half, abs=0.1)
    assert delta.high == pytest.approx(difference.mean() + half, abs=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        base = (rng.random((2, 300)) < 0.7).astype(float)
        variant = np.where(rng.random((2, 300)) < 0.1, (rng.random((2, 300)) < 0.9).astype(float), base)
        delta = paired_delta(base, variant)
        hits += delta.low <= 100 * 0.1 * (0.9 - 0.7) <= delta.high
    assert 180 <= hits <= 199  # 95% of 200, within three standard errors


def test_pairing_makes_equal_outcomes_differ_by_nothing() -> None:
    scores = (np.random.default_rng(0).random((2, 50)) < 0.5).astype(float)
    assert paired_delta(scores, scores) == (0, 0, 0)
    assert not paired_delta(scores, scores).leaves_out_zero


def test_outcomes_of_different_images_are_not_compared() -> None:
    with pytest.raises(RiftError, match="cannot be compared in pairs"):
        paired_delta(np.ones((2, 50)), np.ones((2, 49)))


def test_accuracy_is_mean_and_deviation_over_seeds() -> None:
    found = accuracy(np.array([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=float))
    assert (found.mean, found.seeds, found.images) == (62.5, 2, 4)
    assert found.sd == pytest.approx(np.std([50, 75], ddof=1))
    assert np.isnan(accuracy(np.ones((1, 3))).sd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prepared: data.Prepared) -> Path:
    """Results of a made-up grid: two data sets, two architectures, two seeds; the outcome of every image is known."""
    folder = tmp_path_factory.mktemp("results")
    data.save(folder / "data/digits/prepared.safetensors", prepared, SOURCE)
    names: tuple[CorruptionName, ...] = ("gaussian_noise", "contrast", "fog")
    for name in names:
        split = corrupted.corrupted_test_split(prepared, name, Corrupt(images=3, source="generated"), folder)
        corrupted.save(folder / f"data/digits/corrupted/{name}.npy", split, prepared.labels["test"], SOURCE)
    rng = np.random.default_rng(0)
    for run in [
        Path("runs", dataset, architecture, "pgd", f"seed{seed}")
        for dataset in ("digits", "letters")
        for architecture in ("resnet8", "resnet18")
        for seed in (0, 1)
    ]:
        make_run(folder / run, rng, made_by("import" if "resnet18" in run.parts else "train", "pgd"))
    return folder


def made_by(stage: str, regime: RegimeName) -> dict[str, Any]:
    """Settings of the stage that made a base, by the recipe of its regime."""
    experiment = parse({"experiment": "x", "grid": {"datasets": ["digits"], "architectures": ["resnet8"]}}, "x.yaml")
    return {"stage": stage, **experiment.settings(regime=regime).model_dump(mode="json")}


def make_run(run: Path, rng: np.random.Generator, base_settings: dict[str, Any]) -> None:
    source = artifacts.provenance(base_settings)
    artifacts.write_arrays(run / "base.safetensors", {"weight": np.zeros(1)}, source)
    # A file of an earlier import lies beside trained weights, too.
    facts = {"weights": "mine.pth", "sha256": "0123456789abcdef", "normalization": {"from": "dataset"}}
    artifacts.write_json(run / "imported.json", facts, source)
    modules = ["conv1", "layer1.0.conv1", "linear"]
    mrc = rng.random(3)
    write = {
        "criticality.csv": pd.DataFrame(
            {
                "module": modules,
                "kind": ["conv", "conv", "linear"],
                "parameters": [144, 2304, 640],
                "mrc": mrc,
                "mrc_error": 0.05,
                "robust_loss": 1 + mrc,
                "robust_accuracy_drop": 20 * mrc,
                "rank": mrc.argsort().argsort() + 1,
                "tied": mrc <= mrc.min() + 0.1,
            }
        ),
        "training.csv": pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "learning_rate": [0.1, 0.1, 0.01],
                "standard_accuracy": [50.0, 70.0, 80.0],
                "adversarial_accuracy": [20.0, 45.0, 44.0],
                "train_standard_accuracy": [52.0, 75.0, 90.0],
                "train_adversarial_accuracy": [22.0, 49.0, 64.0],
                "kept": [False, True, False],
            }
        ),
    }
    for scope in ("rift", "top2"):
        sweep = {
            "alpha": [0, 0.5, 1],
            "standard_accuracy": [80.0, 81.0, 82.0],
            "adversarial_accuracy": [50.0, 50.0, 47.0],
        }
        write[f"{scope}/sweep.csv"] = pd.DataFrame(sweep)
        base = {"standard_accuracy": 80.0, "adversarial_accuracy": 50.0}
        choice = {"alpha": 0.5, "selection": "validation", "images": 40, "tolerance": 0.1, "restarts": 3}
        choice |= {"precision": "float32", "base": base}
        artifacts.write_json(run / scope / "selection.json", choice, SOURCE)
        taken = [modules[number] for number in mrc.argsort()[: 2 if scope == "top2" else 1]]
        artifacts.write_arrays(run / scope / "finetuned.safetensors", {"weight": np.zeros(1)}, SOURCE, modules=taken)
    base_outcomes = {"standard": rng.random(50) < 0.8, "pgd": rng.random(50) < 0.5, "autoattack": rng.random(20) < 0.4}
    for variant in ("base", "rift", "top2"):
        evaluation = run / "evaluation" / variant
        better = {name: outcome | (rng.random(len(outcome)) < 0.1) for name, outcome in base_outcomes.items()}
        outcomes = base_outcomes if variant == "base" else better
        after_corruption = {name: rng.random((5, 50)) < 0.7 for name in ("contrast", "gaussian_noise")}
        artifacts.write_outcomes(evaluation / "standard.npz", {"standard": outcomes["standard"]}, SOURCE)
        artifacts.write_outcomes(evaluation / "ood.npz", after_corruption, SOURCE)
        attacked = {name: outcomes[name] for name in (("pgd",) if variant == "top2" else ("pgd", "autoattack"))}
        artifacts.write_outcomes(evaluation / "adversarial.npz", attacked, SOURCE)
        pgd = {"eps": 0.2, "step": 0.05, "steps": 10, "restarts": 3}
        artifacts.write_json(
            evaluation / "adversarial.json", {"pgd": pgd, "autoattack": {"version": "standard"}}, SOURCE
        )
        rows = [
            {"corruption": name, "severity": number, "accuracy": 100 * row.mean(), "source": "generated"}
            for name, levels in after_corruption.items()
            for number, row in enumerate(levels, start=1)
        ]
        write[f"evaluation/{variant}/ood.csv"] = pd.DataFrame(rows)
    measure = {"method": "pga", "epsilon": 0.1, "norm": "l2", "images": 64, "split": "train", "precision": "float32"}
    source = artifacts.provenance({"criticality": measure, "attack": {"steps": 10, "eps": 0.2}})
    for name, table in write.items():
        artifacts.write_csv(run / name, table, source)


def grid(
    datasets: tuple[str, ...] = ("digits", "letters"),
    architectures: tuple[str, ...] = ("resnet8", "resnet18"),
    regimes: tuple[RegimeName, ...] = ("pgd",),
) -> Grid:
    """Make a grid past the names that exist."""
    made_up: dict[str, Any] = {"datasets": datasets, "architectures": architectures}
    real: dict[str, Any] = {
        "regimes": regimes,
        "seeds": (0, 1),
        "scopes": ("rift", "top2"),
        "autoattack": ("base", "rift"),
    }
    return Grid.model_construct(**made_up, **real)


def test_the_main_table_holds_the_means_of_the_outcomes_and_their_averages(folder: Path) -> None:
    table = TABLES["main"](folder, grid())
    shown = table.shown
    assert list(shown.columns.get_level_values(0).unique()) == ["digits", "letters", "average"]
    means = {}
    for dataset in ("digits", "letters"):
        for architecture in ("resnet8", "resnet18"):
            files = [
                folder / "runs" / dataset / architecture / f"pgd/seed{seed}/evaluation/base/standard.npz"
                for seed in (0, 1)
            ]
            seeds = [100 * np.load(file)["standard"].mean() for file in files]
            means[dataset, architecture] = np.mean(seeds)
            text = f"{np.mean(seeds):.2f} ± {np.std(seeds, ddof=1):.2f}"
            assert shown.loc[(f"{architecture}, pgd", "AT"), (dataset, "Std")] == text
    assert shown.loc[("resnet8, pgd", "AT"), ("average", "Std")] == (
        f"{np.mean([means['digits', 'resnet8'], means['letters', 'resnet8']]):.2f}"
    )
    assert shown.loc[("average, pgd", "AT"), ("average", "Std")] == f"{np.mean(list(means.values())):.2f}"
    results = Results(folder, grid())
    base, rift = (results.scores(Cell("digits", "resnet8", "pgd"), variant, "pgd") for variant in ("base", "rift"))
    assert base is not None
    assert rift is not None
    expected = paired_delta(base, rift)
    text = str(shown.loc[("resnet8, pgd", "Δ"), ("digits", "Adv (PGD)")]).replace("−", "-")
    assert text.startswith(f"{expected.mean:+.2f}")
    assert f"[{expected.low:+.2f}, {expected.high:+.2f}]" in text
    assert ("*" in text) == expected.leaves_out_zero
    assert any("AutoAttack, standard version, on the first 20" in note for note in table.notes)
    assert any("OOD on 50, mean of 2 corruptions × 5 severities, generated;" in note for note in table.notes)
    assert [note for note in table.notes if "imported" in note] == [
        f"{dataset}, resnet18, pgd: the base was not trained here but imported (mine.pth, sha256 0123456789ab;"
        " normalisation: dataset)."
        for dataset in ("digits", "letters")
    ]


@pytest.fixture(scope="module")
def by_regime(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Grid]:
    """Results of two regimes on two data sets; the paper has numbers of one regime on one of them."""
    folder, rng = tmp_path_factory.mktemp("regimes"), np.random.default_rng(0)
    asked = grid(("tiny-imagenet", "cifar10"), ("resnet18",), ("standard", "trades"))
    for dataset, regime, seed in product(asked.datasets, asked.regimes, asked.seeds):
        settings = made_by("train", regime)
        if dataset == "tiny-imagenet" and regime == "trades":
            settings["trades"]["beta"] = 3.0
        make_run(folder / f"runs/{dataset}/resnet18/{regime}/seed{seed}", rng, settings)
    return folder, asked


def test_the_table_of_regimes_sets_what_was_measured_beside_what_the_paper_prints(
    by_regime: tuple[Path, Grid], tmp_path: Path
) -> None:
    table, main = TABLES["regimes"](*by_regime), TABLES["main"](*by_regime)
    shown = table.shown
    assert list(dict.fromkeys(shown.index.get_level_values(0))) == [
        "resnet18, standard",
        "resnet18, standard (paper)",
        "resnet18, trades",
        "resnet18, trades (paper)",
    ]
    for regime in ("standard", "trades"):
        of_main = main.shown.loc[[f"resnet18, {regime}"], ["tiny-imagenet", "cifar10"]]
        pd.testing.assert_frame_equal(shown.loc[[f"resnet18, {regime}"]], of_main)
    # Zhu et al., second table.
    paper = shown.loc["resnet18, trades (paper)"]
    assert paper["cifar10"].to_numpy().tolist() == [
        ["81.54", "73.42", "53.31", "–"],
        ["81.87", "74.09", "53.30", "–"],
        ["+0.33", "+0.67", "−0.01", "–"],
    ]
    assert list(paper.index) == ["AT", "AT + RiFT", "Δ"]
    assert (paper["tiny-imagenet"] == "–").to_numpy().all()
    assert (shown.loc["resnet18, standard (paper)"] == "–").to_numpy().all()

    write_table(table, tmp_path / "table.csv")
    numbers = pd.read_csv(tmp_path / "table.csv")
    printed = numbers[numbers["source"] == "paper"].set_index(["dataset", "regime", "variant", "metric"])
    assert printed["mean"].map("{:.2f}".format).to_dict() == {
        ("cifar10", "trades", variant, metric): paper.loc[method, ("cifar10", column)]
        for variant, method in (("base", "AT"), ("rift", "AT + RiFT"))
        for metric, column in (("std", "Std"), ("ood", "OOD"), ("pgd", "Adv (PGD)"))
    }
    measured = numbers[numbers["source"] == "measured"].drop(columns="source")
    assert len(measured) == len(main.numbers) == len(numbers) - 6


def test_the_table_of_regimes_says_how_each_base_was_trained(by_regime: tuple[Path, Grid]) -> None:
    trades = (
        "trained for 76 epochs, learning rate 0.1 ÷10 after 75, weight decay 0.0002,"
        " PGD-10 from a normal start (eps 0.031),"
    )
    assert [note for note in TABLES["regimes"](*by_regime).notes if "trained for" in note] == [
        "resnet18, standard (tiny-imagenet, cifar10): trained for 110 epochs, learning rate 0.1 ÷10 after 100, 105, weight"
        " decay 0.0005.",
        f"resnet18, trades (tiny-imagenet): {trades} trades beta 3.",
        f"resnet18, trades (cifar10): {trades} trades beta 6.",
    ]


def test_every_number_of_the_paper_can_be_looked_up() -> None:
    """Every data set, architecture and metric of its first two tables, and scopes of the third and fourth."""
    main = product(("cifar10", "cifar100", "tiny-imagenet"), ("resnet18", "resnet34", "wrn-34-10"), ("pgd",))
    others = product(("cifar10", "cifar100"), ("resnet18",), ("trades", "mart", "awp", "score"))
    variants: tuple[Variant, ...] = ("base", "rift")
    asked = list(product(variants, METRICS))
    for cell in (*main, *others):
        found = {(variant, metric): published.accuracy(Cell(*cell), variant, metric) for variant, metric in asked}
        assert {metric for (_, metric), value in found.items() if value is None} == {"autoattack"}, cell
        base, rift = ([found[variant, metric] or 0 for metric in ("std", "ood")] for variant in variants)
        assert all(before < after for before, after in zip(base, rift, strict=True)), cell
    cell = Cell("cifar10", "resnet18", "pgd")
    scopes: tuple[Scope, ...] = ("rift", "robust-critical", "all-layers", "last-layer", "top2", "top3", "top5")
    assert [published.accuracy(cell, scope, "pgd") for scope in scopes] == [
        53.65,
        52.48,
        52.66,
        52.75,
        52.47,
        52.22,
        52.35,
    ]
    assert published.accuracy(Cell("digits", "resnet8", "pgd"), "base", "std") is None


def test_the_criticality_table_says_how_it_was_measured(folder: Path) -> None:
    notes = TABLES["criticality"](folder, grid(("digits",), ("resnet8",))).notes
    assert notes[-1] == (
        "digits, resnet8, pgd: search by projected gradient ascent, weights moved by at most 0.1 of their norm, on PGD-10"
        " examples (eps 0.2) of 64 images of the train split; ascent in float32."
    )


def test_what_was_not_run_shows_as_such(folder: Path) -> None:
    shown = TABLES["top-k"](folder, grid(("digits",), ("resnet8",))).shown
    assert shown.loc[("digits, resnet8, pgd", "top 2"), "Adv (AutoAttack)"] == "–"
    assert shown.loc[("digits, resnet8, pgd", "top 1 (RiFT)"), "α"] == "0.5, 0.5"
    assert "top 3" not in shown.index.get_level_values(1)


def test_tables_of_test_selected_points_say_so(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "r")
    for path in (tmp_path / "r").glob("runs/digits/resnet8/pgd/seed*/rift/selection.json"):
        path.write_text(path.read_text().replace('"validation"', '"test"'))
    notes = TABLES["main"](tmp_path / "r", grid(("digits",), ("resnet8",))).notes
    assert any(note.endswith("of the test split. These are test data, as in the paper.") for note in notes)


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}, "a table needs no network"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th") and data.strip():
            self.texts.append(data)


@pytest.mark.parametrize("name", get_args(TableName))
def test_every_format_holds_every_cell(name: TableName, folder: Path, tmp_path: Path) -> None:
    table = TABLES[name](folder, grid())
    paths = {suffix: tmp_path / f"table{suffix}" for suffix in (".csv", ".md", ".tex", ".html")}
    for path in paths.values():
        write_table(table, path)
    texts = sorted(table.shown.to_numpy().ravel())
    parser = Cells()
    parser.feed(paths[".html"].read_text())
    assert not parser.open
    for text in filter(None, set(texts)):
        assert parser.texts.count(text) >= texts.count(text)
        assert text in paths[".md"].read_text()
    pd.testing.assert_frame_equal(pd.read_csv(paths[".csv"]), table.numbers, check_dtype=False)

    latex = paths[".tex"].read_text()
    assert not re.search(r"[±Δα−×÷–]", latex)
    assert len(set(re.findall(r"^.*&.*$", latex, re.MULTILINE))) >= len(table.shown)
    widths = {len(re.findall("(?<!\\\\)&", line)) for line in latex.splitlines() if "pm" in line and "&" in line}
    assert widths <= {table.shown.shape[1] + 1}
    assert " & ".join(map(str, table.shown.index.names)) + " & " in latex
    for environment in ("table", "tabular"):
        assert latex.count(f"\\begin{{{environment}}}") == latex.count(f"\\end{{{environment}}}") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX installed")
@pytest.mark.parametrize("name", get_args(TableName))
def test_latex_compiles(name: TableName, folder: Path, tmp_path: Path) -> None:
    write_table(TABLES[name](folder, grid()), tmp_path / "table.tex")
    preamble = (
        r"\documentclass{article}\usepackage{booktabs,multirow,graphicx}\begin{document}\input{table}\end{document}"
    )
    (tmp_path / "paper.tex").write_text(preamble)
    subprocess.run(["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("name", get_args(FigureName))
def test_every_figure_is_drawn_twice_alike(name: FigureName, folder: Path, tmp_path: Path) -> None:
    for suffix, magic in ((".png", b"\x89PNG"), (".pdf", b"%PDF")):
        for copy in ("a", "b"):
            save_figure(draw(name, folder, grid(("digits",), ("resnet8",))), tmp_path / f"{copy}{suffix}")
        content = (tmp_path / f"a{suffix}").read_bytes()
        assert content.startswith(magic)
        assert content == (tmp_path / f"b{suffix}").read_bytes()


def history(learning_rate: list[float], adversarial: list[float], train: list[float], kept: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": range(1, len(train) + 1),
            "learning_rate": learning_rate,
            "standard_accuracy": 80.0,
            "adversarial_accuracy": adversarial,
            "train_standard_accuracy": 90.0,
            "train_adversarial_accuracy": train,
        }
    ).assign(kept=lambda table: table["epoch"] == kept)


def drawn_training(rows: pd.DataFrame, folder: Path) -> tuple[Figure, Axes]:
    asked = grid(("digits",), ("resnet8",)).model_copy(update={"seeds": (0,)})
    artifacts.write_csv(folder / "runs/digits/resnet8/pgd/seed0/training.csv", rows, SOURCE)
    figure = draw("training", folder, asked)
    return figure, figure.axes[0]


def marks(axis: Axes, style: str) -> list[float]:
    """Where vertical lines of a style stand."""
    return [
        float(np.asarray(line.get_xdata())[0])
        for line in axis.lines
        if line.get_linestyle() == style and len(set(np.asarray(line.get_xdata()))) == 1 and line.get_marker() == "None"
    ]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_training_figure_shades_the_gap_that_opens_after_the_epoch_kept(tmp_path: Path) -> None:
    rows = history([0.1, 0.1, 0.01, 0.001, 0.001], [30, 40, 50, 47, 44], [31, 42, 54, 65, 76], kept=3)
    figure, axis = drawn_training(rows, tmp_path)
    (shade,) = axis.collections
    corners = {(x, y) for x, y in np.asarray(shade.get_paths()[0].vertices).tolist()}
    assert corners == {(3, 50), (3, 54), (4, 47), (4, 65), (5, 44), (5, 76)}
    assert axis.get_title() == "seed 0: epoch 3 kept\ngap 4.0 there, 32.0 at the end"
    assert marks(axis, "-") == [3]
    assert marks(axis, ":") == [2.5, 3.5]
    assert "sudden drop of the learning rate" in legend(figure)
    assert "selection split, averaged weights" not in legend(figure)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_the_training_figure_marks_no_drop_of_a_smooth_schedule(schedule: ScheduleName, tmp_path: Path) -> None:
    rates = [SCHEDULES[schedule](Train(epochs=20, schedule=schedule), epoch + 0.99) for epoch in range(20)]
    assert rates[-1] < rates[-2] / 2
    figure, axis = drawn_training(history(rates, [40.0] * 20, [50.0] * 20, kept=20), tmp_path)
    assert marks(axis, ":") == []
    assert "sudden drop of the learning rate" not in legend(figure)


@pytest.mark.parametrize(("averaged", "kept"), [(49.0, 49.0), (44.0, 45.0)], ids=["averaged", "last step's"])
def test_the_training_figure_marks_the_weights_kept(averaged: float, kept: float, tmp_path: Path) -> None:
    rows = history([0.1] * 3, [30, 45, 40], [31, 50, 55], kept=2)
    rows = rows.assign(averaged_standard_accuracy=81.0, averaged_adversarial_accuracy=[10, averaged, 48])
    figure, axis = drawn_training(rows, tmp_path)
    (mark,) = [line for line in axis.lines if line.get_marker() == "o"]
    assert (mark.get_xdata(), mark.get_ydata()) == ([2], [kept])
    assert ("averaged weights" in axis.get_title()) == (averaged == kept)
    assert "selection split, averaged weights" in legend(figure)


def test_figures_and_tables_refuse_what_they_cannot_show(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RiftError, match="figure training shows one dataset, architecture, regime"):
        draw("training", folder, grid())
    with pytest.raises(RiftError, match=r"tables are written as \.csv, \.md, \.tex, \.html, not \.xlsx"):
        write_table(TABLES["criticality"](folder, grid()), tmp_path / "table.xlsx")
    with pytest.raises(RiftError, match=r"figures are written as \.png or \.pdf"):
        save_figure(draw("training", folder, grid(("digits",), ("resnet8",))), tmp_path / "a.gif")
    missing = grid(("kanji",), ("resnet8",))
    with pytest.raises(RiftError, match=r"kanji/resnet8/pgd/seed0/criticality\.csv: does not exist"):
        TABLES["criticality"](folder, missing)


def test_seeds_evaluated_on_different_images_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "r")
    path = tmp_path / "r/runs/digits/resnet8/pgd/seed1/evaluation/rift/standard.npz"
    artifacts.write_outcomes(path, {"standard": np.ones(49, dtype=bool)}, SOURCE)
    with pytest.raises(RiftError, match=r"seed1/evaluation/rift/standard\.npz: holds 49 images, .* 50"):
        TABLES["main"](tmp_path / "r", grid(("digits",), ("resnet8",)))


@pytest.mark.parametrize(("kind", "names"), [("table", get_args(TableName)), ("figure", get_args(FigureName))])
def test_every_table_and_figure_has_a_caption(kind: str, names: tuple[str, ...], repository: Path) -> None:
    template = jinja2.Template(
        (repository / f"workflow/report/{kind}.rst").read_text(), undefined=jinja2.StrictUndefined
    )
    for name in names:
        caption: Any = template.render(snakemake={"wildcards": {kind: name}})
        assert caption.strip().endswith(".")
        assert json.dumps(caption)
