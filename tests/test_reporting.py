import json
import re
import shutil
import subprocess
import sys
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
from scipy import stats

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
from rift.reporting.tables import TABLES, Table
from rift.reporting.tables.reference import compare
from rift.statistics import exact_test, paired_delta, wilson
from rift.training.schedules import SCHEDULES

SOURCE = artifacts.provenance({})


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
        for stage, seconds in {
            "train": 20.0 + int(run.name[-1]),
            "evaluation/base/ood": 4.0,
            "rift/finetune": 5.0,
        }.items():
            benchmark(folder / "benchmarks" / run / f"{stage}.tsv", seconds)
    for dataset in ("digits", "letters"):
        counts = {"images": {"train": 100, "validation": 40, "test": 50}}
        artifacts.write_json(folder / f"data/{dataset}/manifest.json", counts, SOURCE)
    return folder


def benchmark(path: Path, seconds: float) -> None:
    """A file as Snakemake writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
        f"{seconds}\t0:00:20\t408.00\t801.86\t284.59\t339.39\t0.00\t5.84\t40.43\t15.06\n"
    )


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
    before, after = (results.outcomes(Cell("digits", "resnet8", "pgd"), variant, "pgd") for variant in ("base", "rift"))
    assert before is not None
    assert after is not None
    base, rift = before.array, after.array
    expected = paired_delta(base, rift)
    text = str(shown.loc[("resnet8, pgd", "Δ"), ("digits", "Adv (PGD)")]).replace("−", "-")
    assert text.startswith(f"{expected.mean:+.2f}")
    assert f"[{expected.low:+.2f}, {expected.high:+.2f}]" in text
    p = exact_test(base, rift).p
    assert ("*" in text) == (expected.leaves_out_zero and p <= 0.05)
    assert float(str(shown.loc[("resnet8, pgd", "Δ, p"), ("digits", "Adv (PGD)")]).lstrip("< ")) == pytest.approx(
        p, abs=0.005
    )
    assert shown.loc[("resnet8, pgd", "Δ, p"), ("digits", "OOD")] == ""
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
    printed = numbers[numbers["published"].notna()].set_index(["dataset", "regime", "variant", "metric"])
    assert printed["published"].map("{:.2f}".format).to_dict() == {
        ("cifar10", "trades", variant, metric): paper.loc[method, ("cifar10", column)]
        for variant, method in (("base", "AT"), ("rift", "AT + RiFT"))
        for metric, column in (("std", "Std"), ("ood", "OOD"), ("pgd", "Adv (PGD)"))
    }
    assert printed["published_delta"].dropna().round(2).tolist() == [0.33, 0.67, -0.01]
    pd.testing.assert_frame_equal(numbers, main.numbers, check_dtype=False)


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


def by(table: pd.DataFrame, *keys: str) -> dict[Any, dict[Any, Any]]:
    """Rows by their keys."""
    rows = table.to_dict("records")
    return {row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys): row for row in rows}


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

    check_latex(paths[".tex"].read_text(), table)


def check_latex(latex: str, table: Table) -> None:
    """What TeX would stumble over: letters it does not have, special ones, braces, environments, cells of a row."""
    assert latex.isascii()
    # What is left without escaped letters and formulas, which hold no more than a sign.
    plain = re.sub(r"\$(\\[a-zA-Z]+|[-<>])\$", "", re.sub(r"\\[\\&#%_{}$]", "", latex))
    assert not re.search(r"[#_^~\"$]", plain)
    assert not re.search(r"%(?!$)", plain, re.MULTILINE)  # at a line's end it is meant
    depth = np.cumsum([(letter == "{") - (letter == "}") for letter in plain])
    assert depth.min() >= 0
    assert depth[-1] == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", latex):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    body = latex.split("\\begin{tabular}")[1].split("\\end{tabular}")[0]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert len(rows) == len(table.shown) + table.shown.columns.nlevels
    for row in rows:
        spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        assert len(re.findall(r"(?<!\\)&", row)) + sum(spans) == table.shown.shape[1] + 1
    assert " & ".join(map(str, table.shown.index.names)) + " & " in latex


NASTY = r"50% of a_b & c#1 {x} $5 ~ ^ \ <x> ± Δ α − × ÷ –"


def nasty() -> Table:
    index = pd.MultiIndex.from_tuples([(NASTY, "a"), (NASTY, NASTY)], names=["Base", "Method"])
    shown = pd.DataFrame([[NASTY, "1"], ["2", NASTY]], index=index, columns=["x", NASTY])
    return Table(NASTY, NASTY, shown, pd.DataFrame({"x": [1]}), [NASTY])


def test_special_letters_are_escaped_in_latex_and_html(tmp_path: Path) -> None:
    for suffix in (".tex", ".html"):
        write_table(nasty(), tmp_path / f"table{suffix}")
    check_latex((tmp_path / "table.tex").read_text(), nasty())
    parser = Cells()
    parser.feed((tmp_path / "table.html").read_text())
    assert parser.texts.count(NASTY) >= 3


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX installed")
def test_latex_compiles(folder: Path, tmp_path: Path) -> None:
    """All tables in one document: TeX takes its time to start."""
    tables: dict[str, Table] = {
        "nasty": nasty(),
        **{name: TABLES[name](folder, grid()) for name in get_args(TableName)},
    }
    for name, table in tables.items():
        write_table(table, tmp_path / f"{name}.tex")
    inputs = "".join(rf"\input{{{name}}}\clearpage" for name in tables)
    preamble = r"\documentclass{article}\usepackage{booktabs,multirow,graphicx}"
    (tmp_path / "paper.tex").write_text(rf"{preamble}\begin{{document}}{inputs}\end{{document}}")
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
    rows["averaged_kept"] = rows["kept"] & (averaged == kept)
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


@pytest.mark.parametrize("name", get_args(TableName))
def test_a_table_without_any_number_is_refused(name: TableName, folder: Path) -> None:
    with pytest.raises(RiftError, match=r"results0(/benchmarks)?: .*(no run of the grid|no benchmark file)"):
        TABLES[name](folder, grid(("kanji",), ("resnet8",)))


RUN = Path("runs/digits/resnet8/pgd")
ONE_CELL = grid(("digits",), ("resnet8",))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The results of one cell, to be damaged."""
    for part in (RUN, Path("data/digits"), "benchmarks" / RUN):
        shutil.copytree(folder / part, tmp_path / "r" / part)
    return tmp_path / "r"


def test_a_table_is_made_from_what_is_there_and_says_what_is_not(copy: Path) -> None:
    whole = TABLES["main"](copy, ONE_CELL)
    lost = {
        "seed0": ("evaluation/base/standard.npz", "evaluation/base/ood.csv", "evaluation/base/adversarial.json"),
        "seed1": ("evaluation/rift/adversarial.npz", "criticality.csv"),
    }
    for seed, names in lost.items():
        for name in (*names, "rift/selection.json"):
            (copy / RUN / seed / name).unlink()
    shutil.rmtree(copy / RUN / "seed1/rift")
    (copy / RUN / "seed0/base.safetensors").unlink()
    table = TABLES["main"](copy, ONE_CELL)
    shown = {column: table.shown["digits"][column] for column in METRICS.values()}
    seed1 = np.load(copy / RUN / "seed1/evaluation/base/standard.npz")["standard"]
    low, high = wilson(int(seed1.sum()), 50)
    assert shown["Std"].iloc[0] == f"{100 * seed1.mean():.2f} [{low:.2f}, {high:.2f}] (1 of 2 seeds)"
    assert shown["Std"].iloc[1] == whole.shown["digits", "Std"].iloc[1]
    # A difference is of the seed that both have.
    only = TABLES["main"](copy, ONE_CELL.model_copy(update={"seeds": (1,)})).shown["digits", "Std"].iloc[2]
    assert shown["Std"].iloc[2] == only
    assert list(shown["OOD"]) == list(whole.shown["digits", "OOD"])
    assert by(table.numbers, "variant", "metric")["rift", "pgd"]["seeds"] == 1
    assert (
        "Not evaluated yet: digits, resnet8, pgd: base Std (seed 0); rift Adv (PGD), rift Adv (AutoAttack) (seed 1)."
        in (table.notes)
    )
    for name in get_args(TableName):
        TABLES[name](copy, ONE_CELL)
    for path in copy.glob("runs/**/adversarial.npz"):
        path.unlink()
    assert list(TABLES["main"](copy, ONE_CELL).shown["digits", "Adv (PGD)"]) == ["–", "–", "–", ""]


def test_a_cell_that_was_not_run_has_its_rows_and_no_average(folder: Path) -> None:
    asked = grid(("digits", "kanji"), ("resnet8", "resnet18"))
    table = TABLES["main"](folder, asked)
    first = table.shown.iloc[0]
    assert set(first["kanji"]) == set(first["average"]) == {"–"}
    assert table.shown.loc[("average, pgd", "AT"), ("digits", "Std")] != "–"
    assert any("kanji, resnet8, pgd: all of it. kanji, resnet18, pgd: all of it." in note for note in table.notes)
    shown = TABLES["criticality"](folder, asked).shown
    assert list(shown.loc["kanji, resnet8, pgd"].index) == ["–"]


@pytest.mark.parametrize("name", ["standard.npz", "ood.npz", "adversarial.npz", "../../rift/selection.json"])
def test_a_damaged_artifact_is_refused_and_not_left_out(name: str, copy: Path) -> None:
    path = copy / RUN / "seed1/evaluation/rift" / name
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    with pytest.raises(RiftError, match=rf"{Path(name).name}: is damaged"):
        TABLES["main"](copy, ONE_CELL)


def others(examples: str, **attack: float) -> artifacts.Provenance:
    return artifacts.provenance({"examples": examples, "attack": {"eps": 0.2, "step": 0.05, "steps": 10, **attack}})


@pytest.mark.parametrize(
    ("seed", "count", "source", "other", "said"),
    [
        (1, 49, SOURCE, "seed0/evaluation/rift", "holds 49 images instead of 50"),
        (1, 50, others("b"), "seed1/evaluation/base", "examples b instead of a"),
        (0, 50, others("a", eps=0.1), "seed0/evaluation/base", r"attack\.eps 0\.1 instead of 0\.2"),
    ],
    ids=["another seed", "another data set", "another attack"],
)
def test_outcomes_of_other_examples_are_not_compared(
    seed: int, count: int, source: artifacts.Provenance, other: str, said: str, copy: Path
) -> None:
    for path in copy.glob("runs/**/base/adversarial.npz"):
        artifacts.write_outcomes(path, artifacts.read_outcomes(path), others("a"))
    path = copy / RUN / f"seed{seed}/evaluation/rift/adversarial.npz"
    artifacts.write_outcomes(path, {"pgd": np.ones(count, dtype=bool)}, source)
    message = (
        rf"seed{seed}/evaluation/rift/adversarial\.npz: cannot be compared with .*{other}/adversarial\.npz.*{said}"
    )
    for make in (TABLES["main"], TABLES["top-k"]):
        with pytest.raises(RiftError, match=message):
            make(copy, ONE_CELL)


def test_the_table_of_corruptions_has_every_corruption_at_every_severity(copy: Path) -> None:
    table = TABLES["corruptions"](copy, ONE_CELL)
    files = {
        variant: [np.load(copy / RUN / f"seed{seed}/evaluation/{variant}/ood.npz") for seed in (0, 1)]
        for variant in ("base", "rift", "top2")
    }
    numbers = by(table.numbers, "variant", "corruption", "severity")
    assert len(numbers) == len(table.numbers) == 3 * 3 * 6
    for variant, corruption, severity in product(files, ("contrast", "gaussian_noise"), range(1, 6)):
        mine, base = ([file[corruption][severity - 1] for file in files[name]] for name in (variant, "base"))
        row = numbers[variant, corruption, str(severity)]
        assert row["mean"] == pytest.approx(100 * np.mean(mine))
        block = table.shown.loc[f"digits, resnet8, pgd: {variant}"]
        text = str(block.loc[corruption.replace("_", " "), f"Severity {severity}"])
        assert text.startswith(f"{100 * np.mean(mine):.2f}")
        if variant != "base":
            assert row["delta_mean"] == pytest.approx(100 * (np.mean(mine) - np.mean(base)))
            assert row["p"] == pytest.approx(exact_test(1.0 * np.stack(base), 1.0 * np.stack(mine)).p)
            assert ("*" in text) == bool(row["distinguishable"])
    rift = by(TABLES["main"](copy, ONE_CELL).numbers, "variant", "metric")["rift", "ood"]
    overall = numbers["rift", "all", "mean"]
    assert (overall["mean"], overall["delta_mean"]) == pytest.approx((rift["mean"], rift["delta_mean"]))
    assert table.notes[-1] == "digits: on 50 test images each, mean of 2 corruptions × 5 severities, generated."


def test_the_cost_table_divides_images_by_the_seconds_of_the_benchmark_files(copy: Path) -> None:
    table = TABLES["cost"](copy, ONE_CELL)
    rows = by(table.numbers, "stage")
    # 100 images and three epochs, in 20 and in 21 seconds.
    assert [rows["train"][name] for name in ("jobs", "seconds", "seconds_total", "images")] == [2, 20.5, 41, 300]
    assert rows["train"]["images_per_second"] == pytest.approx(600 / 41)
    assert rows["evaluate ood"]["images_per_second"] == pytest.approx(2 * 5 * 50 / 4)
    assert rows["train"]["peak_memory_mib"] == 408
    shown = table.shown.loc["digits, resnet8, pgd"]
    assert shown.loc["train", "Images/job"] == "100 × 3 epochs"
    assert [shown.loc["finetune", name] for name in ("Jobs", "Images/job", "Images/s")] == ["2", "–", "–"]  # no history
    assert set(shown.loc["interpolate"]) == {"–"}
    shards = copy / "benchmarks" / RUN / "seed0/criticality"
    for number, seconds in enumerate((3.0, 4.5), start=1):
        benchmark(shards / f"shard{number}-of-2.tsv", seconds)
    after = by(TABLES["cost"](copy, ONE_CELL).numbers, "stage")["criticality"]
    assert (after["jobs"], after["seconds"], after["images"]) == (1, 7.5, 64 * 3)
    (shards / "shard1-of-2.tsv").write_text("seconds\n3\n")
    with pytest.raises(RiftError, match=r"shard1-of-2\.tsv: is no benchmark file of Snakemake's"):
        TABLES["cost"](copy, ONE_CELL)


def test_numbers_are_compared_with_those_of_the_paper(tmp_path: Path) -> None:
    """10,000 images, of which exactly as many pass as the paper prints, or too few; and outcomes that it has none of."""
    at = tmp_path / "runs/cifar10/resnet18/pgd/seed0/evaluation"
    passes = np.arange(10_000)
    for variant, standard, robust in (("base", 8146, 5163), ("rift", 8346, 5163), ("module-conv1", 9000, 5000)):
        artifacts.write_outcomes(at / variant / "standard.npz", {"standard": passes < standard}, SOURCE)
        artifacts.write_outcomes(at / variant / "adversarial.npz", {"pgd": passes < robust}, SOURCE)
    table = compare(tmp_path)
    numbers = by(table.numbers, "variant", "metric", "is_delta")
    assert set(numbers) == {
        ("base", "std", False),
        ("base", "pgd", False),
        *product(["rift"], ["std", "pgd"], [False, True]),
    }
    base = numbers["base", "std", False]
    assert (base["mean"], base["published"], base["difference"]) == pytest.approx((81.46, 81.46, 0))
    assert (base["low"], base["high"]) == pytest.approx(wilson(8146, 10_000))
    assert numbers["base", "pgd", False]["difference"] == pytest.approx(51.63 - 53.63)
    delta = numbers["rift", "std", True]
    assert (delta["mean"], delta["published"]) == pytest.approx((2.0, 1.98))
    low, high = (100 * stats.binom.ppf(tail, 10_000, 0.02) / 10_000 for tail in (0.025, 0.975))
    assert (delta["low"], delta["high"]) == pytest.approx((low, high), abs=0.02)
    assert {key: row["covered"] for key, row in numbers.items()} == {
        ("base", "std", False): True,
        ("base", "pgd", False): False,
        ("rift", "std", False): True,
        ("rift", "std", True): True,
        ("rift", "pgd", False): False,
        ("rift", "pgd", True): False,  # an interval of nothing: no image changed
    }
    assert "covers 3 of 6 published numbers" in table.caption
    shutil.copytree(at, tmp_path / "runs/cifar10/resnet18/pgd/seed3/evaluation")
    artifacts.write_outcomes(at / "base/standard.npz", {"standard": passes < 8046}, SOURCE)
    row = by(compare(tmp_path).numbers, "variant", "metric", "is_delta")["base", "std", False]
    assert (row["low"], row["high"]) == pytest.approx((80.96 - 12.7062 * 0.5, 80.96 + 12.7062 * 0.5), abs=1e-3)
    answer = subprocess.run(
        [sys.executable, "-m", "rift", "compare", "--results", tmp_path, "--output", tmp_path / "x.csv"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| cifar10, resnet18, pgd | base, Std " in answer.stdout
    assert len(pd.read_csv(tmp_path / "x.csv")) == 6


def test_results_that_the_paper_has_no_number_of_are_not_compared(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(RiftError, match="holds no evaluated run that the paper has a number of; it has cifar10"):
        compare(copy)
    with pytest.raises(RiftError, match="nowhere: holds no runs"):
        compare(tmp_path / "nowhere")
    (copy / "runs/digits").rename(copy / "runs/kanji")
    with pytest.raises(RiftError, match=r"r/runs: 1 problem\n  datasets\.0: 'kanji' is not available"):
        compare(copy)


def settings_of_the_paper(dataset: str) -> dict[str, Any]:
    content = {"experiment": "x", "protocol": "paper", "grid": {"datasets": [dataset], "architectures": ["resnet18"]}}
    return parse(content, "x.yaml").settings(dataset, "resnet18").model_dump(mode="json")


def test_every_table_of_test_selected_points_says_so_and_names_the_protocol(copy: Path) -> None:
    names = get_args(TableName)
    for path in copy.glob("runs/**/selection.json"):
        content = artifacts.read_json(path)
        del content["provenance"]
        source = artifacts.provenance(settings_of_the_paper("digits"))
        artifacts.write_json(path, {**content, "selection": "test"}, source)
    for path in copy.glob("runs/**/criticality.csv"):
        columns = pd.read_csv(path, comment="#")
        settings = settings_of_the_paper("digits")
        settings["criticality"]["images"] = 64
        artifacts.write_csv(path, columns, artifacts.provenance(settings))
    for name in names:
        table = TABLES[name](copy, ONE_CELL)
        assert table.title.endswith("(selected on test data)")
        assert table.caption.endswith("α was selected on test data, as in the paper.")
        if name == "main":
            assert any(
                note.endswith("of the test split. These are test data, as in the paper.") for note in table.notes
            )
        assert table.notes[0].startswith("Protocol: the paper's, but for criticality.images 64 (paper: all; digits).")
    for path in copy.glob("runs/**/selection.json"):
        path.write_text(path.read_text().replace('"selection": "test"', '"selection": "validation"'))
    for name in names:
        table = TABLES[name](copy, ONE_CELL)
        assert "test data" not in table.title
        assert not any(note.startswith("Protocol") for note in table.notes)


@pytest.mark.parametrize(("kind", "names"), [("table", get_args(TableName)), ("figure", get_args(FigureName))])
def test_every_table_and_figure_has_a_caption(kind: str, names: tuple[str, ...], repository: Path) -> None:
    template = jinja2.Template(
        (repository / f"workflow/report/{kind}.rst").read_text(), undefined=jinja2.StrictUndefined
    )
    for name in names:
        caption: Any = template.render(snakemake={"wildcards": {kind: name}})
        assert caption.strip().endswith(".")
        assert json.dumps(caption)
