"""Tables that compare variants, checked against the outcomes that they are made of."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rift import artifacts, layout
from rift.config import Grid, TableName
from rift.errors import RiftError
from rift.layout import Cell, Run
from rift.reporting.formats import write_table
from rift.reporting.results import Results
from rift.reporting.tables.comparisons import Comparison, Entry, Subject, compare
from rift.reporting.tables.making import make_table
from rift.statistics import exact_test, paired_delta
from tests.reporting.conftest import CELL, GRID, ONE_CELL
from tests.results import TEST_SET, RunContent, a_grid, outcomes_of, settings_of, source, write_run


def test_the_main_table_contains_the_means_of_the_outcomes_and_their_averages(folder: Path) -> None:
    shown = make_table("main", folder, GRID).shown
    assert list(shown.columns.get_level_values(0).unique()) == ["digits", "letters", "average"]
    means: dict[tuple[str, str], float] = {}
    for dataset, architecture in product(GRID.datasets, GRID.architectures):
        cell = Cell(dataset, architecture, "pgd")
        by_seed = 100 * outcomes_of(folder, cell, (0, 1), "base", "standard").mean(axis=1)
        means[dataset, architecture] = by_seed.mean()
        text = f"{by_seed.mean():.2f} ± {by_seed.std(ddof=1):.2f}"
        assert shown.loc[(f"{architecture}, pgd", "AT"), (dataset, "Std")] == text

    over_datasets = np.mean([means["digits", "resnet8"], means["letters", "resnet8"]])
    assert shown.loc[("resnet8, pgd", "AT"), ("average", "Std")] == f"{over_datasets:.2f}"
    overall = f"{np.mean(list(means.values())):.2f}"
    assert shown.loc[("average, pgd", "AT"), ("average", "Std")] == overall


def test_a_difference_has_its_interval_its_p_and_an_asterisk_if_both_allow_it(
    folder: Path,
) -> None:
    shown = make_table("main", folder, GRID).shown
    marked = set()
    for name, column in (("pgd", "Adv (PGD)"), ("standard", "Std")):
        for dataset, architecture in product(GRID.datasets, GRID.architectures):
            cell = Cell(dataset, architecture, "pgd")
            base, rift = (
                outcomes_of(folder, cell, (0, 1), variant, name) for variant in ("base", "rift")
            )
            delta, p = paired_delta(base, rift), exact_test(base, rift).p
            heading = f"{architecture}, pgd"
            text = str(shown.loc[(heading, "Δ"), (dataset, column)]).replace("−", "-")
            assert text.startswith(f"{delta.mean:+.2f}")
            assert f"[{delta.low:+.2f}, {delta.high:+.2f}]" in text
            assert ("*" in text) == (delta.excludes_zero and p <= 0.05)
            marked.add("*" in text)
            written = str(shown.loc[(heading, "Δ, p"), (dataset, column)]).lstrip("< ")
            assert float(written) == pytest.approx(p, abs=0.0051)
    assert False in marked
    assert shown.loc[("resnet8, pgd", "Δ, p"), ("digits", "OOD")] == ""


def test_notes_of_the_main_table_describe_evaluations_and_imports(folder: Path) -> None:
    notes = make_table("main", folder, GRID).notes
    assert any(
        "AutoAttack (Linf, eps 0.2), standard version, on the first 25" in note for note in notes
    )
    ood = "OOD on 50, mean of 2 corruptions × 5 severities, generated;"
    assert any(ood in note for note in notes)
    assert [note for note in notes if "imported" in note] == [
        f"{dataset}, resnet18, pgd: the base was imported, not trained here (mine.pth, sha256"
        " 0123456789ab; normalisation: dataset)."
        for dataset in GRID.datasets
    ]


@pytest.fixture(scope="module")
def by_regime(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Grid]:
    """Return results of two regimes on two data sets. The paper has one regime on one of them."""
    folder, rng = tmp_path_factory.mktemp("regimes"), np.random.default_rng(0)
    asked = a_grid(("tiny-imagenet", "cifar10"), ("resnet18",), ("standard", "trades"))
    for dataset, regime, seed in product(asked.datasets, asked.regimes, asked.seeds):
        settings = settings_of(regime)
        if dataset == "tiny-imagenet" and regime == "trades":
            settings["trades"]["beta"] = 3.0
        run = Run(Cell(dataset, "resnet18", regime), seed)
        write_run(folder, run, RunContent(settings=settings), rng)
    return folder, asked


def test_the_table_of_regimes_has_rows_of_the_paper(
    by_regime: tuple[Path, Grid], tmp_path: Path
) -> None:
    table, main = make_table("regimes", *by_regime), make_table("main", *by_regime)
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
    keys = ["dataset", "regime", "variant", "metric"]
    printed = numbers[numbers["published"].notna()].set_index(keys)
    assert printed["published"].map("{:.2f}".format).to_dict() == {
        ("cifar10", "trades", variant, metric): paper.loc[method, ("cifar10", column)]
        for variant, method in (("base", "AT"), ("rift", "AT + RiFT"))
        for metric, column in (("std", "Std"), ("ood", "OOD"), ("pgd", "Adv (PGD)"))
    }
    assert printed["published_delta"].dropna().round(2).tolist() == [0.33, 0.67, -0.01]
    pd.testing.assert_frame_equal(numbers, main.numbers, check_dtype=False)


def test_the_table_of_regimes_says_how_each_base_was_trained(by_regime: tuple[Path, Grid]) -> None:
    trades = (
        "trained for 76 epochs, learning rate 0.1 ÷10 after 74, weight decay 0.0002, PGD-10 from a"
        " normal start (Linf, eps 0.031),"
    )
    notes = make_table("regimes", *by_regime).notes
    assert [note for note in notes if "trained for" in note] == [
        "resnet18, standard (tiny-imagenet, cifar10): trained for 110 epochs, learning rate 0.1 ÷10"
        " after 100, 105, weight decay 0.0005.",
        f"resnet18, trades (tiny-imagenet): {trades} trades beta 3.",
        f"resnet18, trades (cifar10): {trades} trades beta 6.",
    ]


def test_results_that_do_not_exist_are_shown_as_such(folder: Path) -> None:
    shown = make_table("top-k", folder, ONE_CELL).shown
    heading = "digits, resnet8, pgd"
    assert shown.loc[(heading, "top 2"), "Adv (AutoAttack)"] == "–"
    assert shown.loc[(heading, "top 1 (RiFT)"), "α"] == "0.5, 0.5"
    assert shown.loc[(heading, "base"), "α"] == "–"
    assert "top 3" not in shown.index.get_level_values(1)


def test_the_mark_of_missing_results_is_explained_where_it_occurs(folder: Path) -> None:
    explained = "– marks results that do not exist."
    assert explained in make_table("top-k", folder, ONE_CELL).notes
    complete = make_table("corruptions", folder, ONE_CELL)
    assert not (complete.shown == "–").any(axis=None)
    assert explained not in complete.notes


def test_tables_that_the_paper_did_not_select_by_its_tolerance_say_so(tmp_path: Path) -> None:
    rng, asked = np.random.default_rng(0), a_grid(("cifar10",), ("resnet18",))
    for seed in asked.seeds:
        write_run(tmp_path, Run(Cell("cifar10", "resnet18", "pgd"), seed), RunContent(), rng)
    expected: dict[TableName, bool] = {"top-k": True, "module-ablation": True, "main": False}
    for name, said in expected.items():
        notes = make_table(name, tmp_path, asked).notes
        assert any("far more than the tolerance" in note for note in notes) == said


def test_a_cell_that_was_not_run_has_rows_but_no_average(folder: Path) -> None:
    asked = a_grid(("digits", "kanji"), ("resnet8", "resnet18"))
    table = make_table("main", folder, asked)
    first = table.shown.iloc[0]
    assert set(first["kanji"]) == set(first["average"]) == {"–"}
    assert table.shown.loc[("average, pgd", "AT"), ("digits", "Std")] != "–"
    missing = "kanji, resnet8, pgd: everything. kanji, resnet18, pgd: everything."
    assert any(missing in note for note in table.notes)


AT = Cell("cifar100-to-cifar10", "resnet18", "at")
TWINS = Cell("cifar100-to-cifar10", "resnet18", "twins-at")


def transferred(_: Grid) -> Iterator[Entry]:
    """Compare a way of transfer with another one, and its RiFT with its base."""
    yield Entry("AT", Subject(AT, "base"))
    yield Entry("TWINS-AT", Subject(TWINS, "base"), Subject(AT, "base"))
    yield Entry("TWINS-AT + RiFT", Subject(TWINS, "rift"), Subject(TWINS, "base"))


@pytest.mark.parametrize("by_dataset", [False, True])
def test_a_comparison_may_be_between_variants_of_different_cells(
    by_dataset: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for cell, seed in product((AT, TWINS), (0, 1)):
        write_run(tmp_path, Run(cell, seed), RunContent(scopes=("rift",)), rng)
    definition = Comparison(
        title="Transfer",
        caption="Accuracy (%) after transfer.",
        entries=transferred,
        block=("dataset", "architecture"),
        by_dataset=by_dataset,
        reference="the row above",
    )
    table = compare(Results(tmp_path, a_grid((), (), ())), definition)

    heading = "resnet18" if by_dataset else "cifar100-to-cifar10, resnet18"
    labels = ["AT", "TWINS-AT", "Δ", "Δ, p", "TWINS-AT + RiFT", "Δ", "Δ, p"]
    assert list(table.shown.index) == [(heading, label) for label in labels]
    column = ("cifar100-to-cifar10", "Std") if by_dataset else "Std"
    at, twins, rift = (
        outcomes_of(tmp_path, cell, (0, 1), variant, "standard")
        for cell, variant in ((AT, "base"), (TWINS, "base"), (TWINS, "rift"))
    )
    found = [str(text) for text in table.shown[column]]
    for row, (before, after) in ((2, (at, twins)), (5, (twins, rift))):
        delta = paired_delta(before, after)
        text = found[row].replace("−", "-").replace("*", "")
        assert text == f"{delta.mean:+.2f} [{delta.low:+.2f}, {delta.high:+.2f}]"
    assert any("Δ is the difference from the row above" in note for note in table.notes)
    references = table.numbers.set_index(["method", "metric"])["reference"]
    assert references["TWINS-AT", "std"] == f"{AT.name}/base"
    assert references[["AT", "TWINS-AT + RiFT"]].isna().all()


def other_source(examples: str, **attack: object) -> artifacts.Provenance:
    """Return the provenance of outcomes under an attack."""
    settings = {"attack": {"eps": 0.2, "step": 0.05, "steps": 10, **attack}}
    return source(settings, examples=examples)


@pytest.mark.parametrize(
    ("seeds", "count", "made", "other", "problem"),
    [
        ((1,), 49, source(), "seed0/evaluation/rift", "49 images instead of 50"),
        ((0, 1), 50, other_source("b"), "seed0/evaluation/base", "examples b instead of a"),
        (
            (0,),
            50,
            other_source(TEST_SET, eps=0.1),
            "seed0/evaluation/base",
            r"attack\.eps 0\.1 instead of 0\.2",
        ),
        (
            (0,),
            50,
            other_source(TEST_SET, norm="l2"),
            "seed0/evaluation/base",
            r"attack\.norm linf instead of l2|attack\.norm l2 instead of linf",
        ),
    ],
    ids=["another seed", "another data set", "another attack", "another norm"],
)
def test_outcomes_of_different_images_are_not_compared(
    seeds: tuple[int, ...],
    count: int,
    made: artifacts.Provenance,
    other: str,
    problem: str,
    copy: Path,
) -> None:
    for seed in (0, 1):
        path = copy / Run(CELL, seed).name / layout.outcomes("base", "adversarial")
        artifacts.write_outcomes(path, artifacts.read_outcomes(path), other_source(TEST_SET))
    for seed in seeds:
        path = copy / Run(CELL, seed).name / layout.outcomes("rift", "adversarial")
        artifacts.write_outcomes(path, {"pgd": np.ones(count, dtype=bool)}, made)
    message = (
        rf"seed{seeds[0]}/evaluation/rift/adversarial\.npz: cannot be compared with"
        rf" .*{other}/adversarial\.npz.*{problem}"
    )
    for name in ("main", "top-k"):
        with pytest.raises(RiftError, match=message):
            make_table(name, copy, ONE_CELL)


def test_a_scope_is_compared_with_its_control_image_by_image(tmp_path: Path) -> None:
    rng, seeds = np.random.default_rng(0), (0, 1)
    scopes = ("mixed-training", "more-training", "top2")
    for seed in seeds:
        write_run(tmp_path, Run(CELL, seed), RunContent(scopes=scopes), rng)
    asked = a_grid(seeds=seeds, scopes=scopes, autoattack=())
    table = make_table("controls", tmp_path, asked)
    label, heading = "mixed-training, compared with more-training", "digits, resnet8, pgd"
    assert list(table.shown.index) == [(heading, name) for name in (label, "Δ", "Δ, p")]
    mixed, control = (outcomes_of(tmp_path, CELL, seeds, scope, "standard") for scope in scopes[:2])
    delta, test = paired_delta(control, mixed), exact_test(control, mixed)
    row = table.numbers.set_index("metric").loc["std"]
    assert row["reference"] == f"{CELL.name}/more-training"
    assert row["mean"] == pytest.approx(100 * mixed.mean())
    assert row["delta_mean"] == pytest.approx(100 * (mixed.mean() - control.mean()))
    assert (row["delta_low"], row["delta_high"]) == pytest.approx((delta.low, delta.high))
    assert (row["p"], row["gained"], row["lost"]) == (test.p, test.gained, test.lost)
    assert any("Δ is the difference from the control" in note for note in table.notes)


def test_a_table_of_controls_without_a_pair_says_what_to_name(folder: Path) -> None:
    with pytest.raises(RiftError, match=r"name both with --grid\.scopes, such as mixed-training"):
        make_table("controls", folder, a_grid(scopes=("rift", "top2"), autoattack=()))
