"""All tables: what is missing, damaged or selected on test data; corruptions and criticality."""

import shutil
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from rift import artifacts, layout
from rift.config import TableName
from rift.errors import RiftError
from rift.layout import Run
from rift.reporting.figures import FIGURES
from rift.reporting.outcomes import METRICS
from rift.reporting.results import Results
from rift.reporting.tables import TABLES
from rift.reporting.tables.making import make_table
from rift.statistics import exact_test, wilson
from tests.reporting.conftest import CELL, GRID, ONE_CELL
from tests.reporting.drawn import legend_of
from tests.results import a_grid, outcomes_of, rewrite_json, settings_of, source


def by(table: pd.DataFrame, *keys: str) -> dict[Any, dict[Any, Any]]:
    """Return rows by their keys."""
    rows = table.to_dict("records")
    single = len(keys) == 1
    return {row[keys[0]] if single else tuple(row[key] for key in keys): row for row in rows}


# Others need transfers, or a scope and its control.
TABLES_OF_RUNS = tuple(name for name in TABLES if not ONE_CELL.lacking(name))


def test_every_name_has_a_table() -> None:
    assert tuple(TABLES) == get_args(TableName)


@pytest.mark.parametrize("name", get_args(TableName))
def test_a_table_without_any_number_is_refused(name: TableName, folder: Path) -> None:
    message = r"results0: .*(no run of the grid|no benchmark file|no scope together)"
    with pytest.raises(RiftError, match=message):
        make_table(name, folder, a_grid(("kanji",)))


def test_a_table_is_made_from_existing_results_and_lists_missing_ones(copy: Path) -> None:
    complete = make_table("main", copy, ONE_CELL)
    runs = [copy / Run(CELL, seed).name for seed in (0, 1)]
    lost = {
        0: (
            layout.outcomes("base", "standard"),
            layout.result("base", "ood"),
            layout.result("base", "adversarial"),
        ),
        1: (layout.outcomes("rift", "adversarial"), layout.CRITICALITY),
    }
    for seed, names in lost.items():
        for name in (*names, layout.selection("rift")):
            (runs[seed] / name).unlink()
    shutil.rmtree((runs[1] / layout.finetuned("rift")).parent)
    (runs[0] / layout.BASE).unlink()

    table = make_table("main", copy, ONE_CELL)
    shown = {column: table.shown["digits"][column] for column in METRICS.values()}
    (seed1,) = outcomes_of(copy, CELL, (1,), "base", "standard")
    low, high = wilson(int(seed1.sum()), 50)
    assert shown["Std"].iloc[0] == (
        f"{100 * seed1.mean():.2f} [{low:.2f}, {high:.2f}] (1 of 2 seeds)"
    )
    assert shown["Std"].iloc[1] == complete.shown["digits", "Std"].iloc[1]
    # The difference is over the one seed that both have.
    alone = make_table("main", copy, a_grid(seeds=(1,))).shown["digits", "Std"]
    assert shown["Std"].iloc[2] == alone.iloc[2]
    assert list(shown["OOD"]) == list(complete.shown["digits", "OOD"])
    assert by(table.numbers, "variant", "metric")["rift", "pgd"]["seeds"] == 1
    assert (
        "Not evaluated yet: digits, resnet8, pgd: base Std (seed 0); rift Adv (PGD), rift Adv"
        " (AutoAttack) (seed 1)."
    ) in table.notes
    for name in TABLES_OF_RUNS:
        make_table(name, copy, ONE_CELL)

    for run in runs:
        for variant in ("base", "rift", "top2"):
            (run / layout.outcomes(variant, "adversarial")).unlink(missing_ok=True)
    robust = make_table("main", copy, ONE_CELL).shown["digits", "Adv (PGD)"]
    assert list(robust) == ["–", "–", "–", ""]


@pytest.mark.parametrize("name", sorted(layout.TABLE_NEEDS))
def test_a_table_does_not_depend_on_files_that_it_does_not_declare(
    name: TableName, copy: Path, tmp_path: Path
) -> None:
    needs = layout.table_needs(name)
    needed = {*layout.needed_files(needs, ONE_CELL.scopes, ONE_CELL.variants), layout.BASE}
    # Notes about versions must not depend on evaluations either.
    later = copy / Run(CELL, 0).name / layout.outcomes("rift", "standard")
    made = {**source(), "commit": "0" * 40, "rift": "9.9"}
    artifacts.write_outcomes(later, artifacts.read_outcomes(later), made)
    # Both exist before a sweep.
    needed |= {layout.finetuned(scope) for scope in ONE_CELL.scopes}
    for seed, file in product(ONE_CELL.seeds, needed):
        link = tmp_path / "alone" / Run(CELL, seed).name / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(copy / Run(CELL, seed).name / file)
    complete, alone = (make_table(name, place, ONE_CELL) for place in (copy, tmp_path / "alone"))
    assert alone.notes == complete.notes
    pd.testing.assert_frame_equal(alone.shown, complete.shown)
    pd.testing.assert_frame_equal(alone.numbers, complete.numbers)


@pytest.mark.parametrize(
    "name",
    [
        layout.outcomes("rift", "standard"),
        layout.outcomes("rift", "ood"),
        layout.outcomes("rift", "adversarial"),
        layout.selection("rift"),
    ],
)
def test_a_damaged_artifact_is_an_error_and_not_omitted(name: str, copy: Path) -> None:
    path = copy / Run(CELL, 1).name / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RiftError, match=rf"{Path(name).name}: is damaged"):
        make_table("main", copy, ONE_CELL)


def test_the_table_of_corruptions_has_every_corruption_at_every_severity(copy: Path) -> None:
    table = make_table("corruptions", copy, ONE_CELL)
    numbers = by(table.numbers, "variant", "corruption", "severity")
    assert len(numbers) == len(table.numbers) == 3 * 3 * 6
    marked = set()
    for variant, corruption in product(("base", "rift", "top2"), ("contrast", "gaussian_noise")):
        mine, base = (
            outcomes_of(copy, CELL, (0, 1), name, corruption) for name in (variant, "base")
        )
        block = table.shown.loc[f"digits, resnet8, pgd: {variant}"]
        for severity in range(1, 6):
            after, before = mine[:, severity - 1], base[:, severity - 1]
            row = numbers[variant, corruption, str(severity)]
            assert row["mean"] == pytest.approx(100 * after.mean())
            text = str(block.loc[corruption.replace("_", " "), f"Severity {severity}"])
            assert text.startswith(f"{100 * after.mean():.2f}")
            if variant != "base":
                assert row["delta_mean"] == pytest.approx(100 * (after.mean() - before.mean()))
                assert row["p"] == pytest.approx(exact_test(before, after).p)
                assert ("*" in text) == bool(row["distinguishable"])
                marked.add("*" in text)
    assert marked == {False, True}
    rift = by(make_table("main", copy, ONE_CELL).numbers, "variant", "metric")["rift", "ood"]
    overall = numbers["rift", "all", "mean"]
    expected = (rift["mean"], rift["delta_mean"])
    assert (overall["mean"], overall["delta_mean"]) == pytest.approx(expected)
    assert table.notes[-2] == (
        "digits: on 50 test images each, mean of 2 corruptions × 5 severities, generated."
    )


def test_the_criticality_table_shows_ranks_choices_and_how_it_was_measured(folder: Path) -> None:
    table = make_table("criticality", folder, ONE_CELL)
    assert table.notes[-2] == (
        "digits, resnet8, pgd: search by projected gradient ascent, weights moved by at most 0.1 of"
        " their norm, on PGD-10 examples (Linf, eps 0.2) of 64 images of the train split; ascent in"
        " float32."
    )
    for module, row in table.shown.loc["digits, resnet8, pgd"].iterrows():
        mrc = table.numbers[table.numbers["module"] == module]["mrc"]
        assert row["MRC (nats)"] == f"{mrc.mean():.3f} ± {mrc.std(ddof=1):.3f}"
        ranks = [int(rank.rstrip("=")) for rank in row["Rank by seed"].split(", ")]
        least = [seed for seed, rank in enumerate(ranks) if rank == 1]
        expected = {0: "", 1: f"rift (seed {least[0] if least else 0})", 2: "rift"}[len(least)]
        chosen = row["Chosen by"]
        assert ("rift" in chosen) == bool(least)
        assert chosen.startswith(expected)


def test_the_table_of_a_race_shows_images_and_brackets_the_ranks_that_do_not_count(
    copy: Path,
) -> None:
    for seed in (0, 1):
        path = copy / Run(CELL, seed).name / layout.CRITICALITY
        table = artifacts.read_csv(path, ("module", "rank"))
        made = artifacts.read_provenance(path)
        settled = table["rank"] <= 2
        raced = table.assign(
            images=settled.map({True: 1000, False: 125}),
            settled=settled,
            mrc_upper=(1.1 * table["mrc"]).where(settled),
        )
        artifacts.write_csv(path, raced, made)
    made_table = make_table("criticality", copy, ONE_CELL)
    for module, row in made_table.shown.loc["digits, resnet8, pgd"].iterrows():
        own = made_table.numbers[made_table.numbers["module"] == module]
        assert row["Images by seed"] == ", ".join(
            "1,000" if rank <= 2 else "125" for rank in own["rank"]
        )
        for text, rank in zip(row["Rank by seed"].split(", "), own["rank"], strict=True):
            assert text.rstrip("=") == (str(rank) if rank <= 2 else f"({rank})")
        assert (row["Upper estimate"] == "–") == (own["rank"] > 2).all()
    assert any(
        note.startswith("A race measures a module on more and more") for note in made_table.notes
    )
    figure = FIGURES["criticality"]
    drawn = figure.draw(figure.collect(Results(copy, ONE_CELL), CELL))
    assert "measured on fewer images" in legend_of(drawn)


def test_an_equals_sign_marks_ties_with_the_first_rank_that_counts(copy: Path) -> None:
    """Ranks 1 and 2 are rough ones: rank 3 is the first, and a tie with it is marked."""
    for seed in (0, 1):
        path = copy / Run(CELL, seed).name / layout.CRITICALITY
        table = artifacts.read_csv(path, ("module", "rank"))
        made = artifacts.read_provenance(path)
        raced = table.assign(settled=table["rank"] > 2, tied=table["rank"].isin([3, 4]))
        artifacts.write_csv(path, raced, made)
    made_table = make_table("criticality", copy, ONE_CELL)
    shown = made_table.shown.loc["digits, resnet8, pgd"]["Rank by seed"]
    texts = {1: "(1)", 2: "(2)", 3: "3", 4: "4="}
    for module, text in shown.items():
        own = made_table.numbers[made_table.numbers["module"] == module]
        assert text == ", ".join(texts.get(rank, str(rank)) for rank in own["rank"])


def test_a_cell_without_criticality_is_shown_and_listed(folder: Path) -> None:
    table = make_table("criticality", folder, a_grid(("digits", "kanji")))
    assert list(table.shown.loc["kanji, resnet8, pgd"].index) == ["–"]
    assert "Not measured yet: kanji, resnet8, pgd (seeds 0, 1)." in table.notes


def settings_of_the_paper() -> dict[str, Any]:
    """Return the settings of the paper's protocol."""
    return settings_of("pgd", protocol="paper")


def test_every_table_of_points_selected_on_test_data_says_so_and_names_the_protocol(
    copy: Path,
) -> None:
    runs = [copy / Run(CELL, seed).name for seed in (0, 1)]
    choices = [run / layout.selection(scope) for run in runs for scope in ("rift", "top2")]
    for path in choices:
        rewrite_json(path, source(settings_of_the_paper()), selection="test")
    for run in runs:
        settings = settings_of_the_paper()
        settings["criticality"]["images"] = 64
        path = run / layout.CRITICALITY
        artifacts.write_csv(path, pd.read_csv(path, comment="#"), source(settings))
    for name in TABLES_OF_RUNS:
        table = make_table(name, copy, ONE_CELL)
        assert table.title.endswith("(selected on test data)")
        assert table.caption.endswith("α was selected on test data, as in the paper.")
        protocol = "Protocol: the paper's, except for criticality.images 64 (paper: all; digits)."
        assert table.notes[0].startswith(protocol)
    notes = make_table("main", copy, ONE_CELL).notes
    warning = "of the test split. These are test data, as in the paper."
    assert any(note.endswith(warning) for note in notes)

    for path in choices:
        rewrite_json(path, selection="validation")
    for name in TABLES_OF_RUNS:
        table = make_table(name, copy, ONE_CELL)
        assert "test data" not in table.title
        assert not any(note.startswith("Protocol") for note in table.notes)


def test_a_single_seed_has_the_interval_over_images(folder: Path) -> None:
    table = make_table("main", folder, a_grid(seeds=(0,)))
    (seed0,) = outcomes_of(folder, CELL, (0,), "base", "pgd")
    low, high = wilson(int(seed0.sum()), 50)
    text = f"{100 * np.mean(seed0):.2f} [{low:.2f}, {high:.2f}]"
    assert table.shown["digits", "Adv (PGD)"].iloc[0] == text
    assert table.notes[0].startswith("Accuracies are of seed 0 only")
    assert len(GRID.seeds) > 1
