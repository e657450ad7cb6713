"""The table of time and memory."""

from pathlib import Path

import pytest

from rift import layout
from rift.errors import RiftError
from rift.layout import Run
from rift.reporting.tables.cost import STAGES
from rift.reporting.tables.making import make_table
from tests.reporting.conftest import CELL, ONE_CELL
from tests.reporting.test_tables import by
from tests.results import write_benchmark


def test_every_stage_has_benchmark_files() -> None:
    assert set(STAGES) == set(layout.BENCHMARKS)


def test_images_are_divided_by_the_seconds_of_the_benchmark_files(copy: Path) -> None:
    table = make_table("cost", copy, ONE_CELL)
    rows = by(table.numbers, "stage")
    # 100 images and three epochs, in 20 and in 21 seconds.
    columns = ("jobs", "seconds", "seconds_total", "images")
    assert [rows["train"][name] for name in columns] == [2, 20.5, 41, 300]
    assert rows["train"]["images_per_second"] == pytest.approx(600 / 41)
    assert rows["evaluate ood"]["images_per_second"] == pytest.approx(2 * 5 * 50 / 4)
    assert rows["train"]["peak_memory_mib"] == 408
    shown = table.shown.loc["digits, resnet8, pgd"]
    assert shown.loc["train", "Images/job"] == "100 × 3 epochs"
    # Fine-tuning has no history here.
    assert [shown.loc["finetune", name] for name in ("Jobs", "Images/job", "Images/s")] == [
        "2",
        "–",
        "–",
    ]
    assert set(shown.loc["interpolate"]) == {"–"}


def test_the_seconds_of_shards_are_added(copy: Path) -> None:
    *_, pattern = layout.benchmarks(Run(CELL, 0), "criticality")
    shards = (copy / pattern).parent
    for number, seconds in enumerate((3.0, 4.5), start=1):
        write_benchmark(shards / f"shard{number}-of-2.tsv", seconds)
    row = by(make_table("cost", copy, ONE_CELL).numbers, "stage")["criticality"]
    assert (row["jobs"], row["seconds"], row["images"]) == (1, 7.5, 64 * 3)


def test_the_seconds_of_interrupted_attempts_are_added(copy: Path) -> None:
    before = by(make_table("cost", copy, ONE_CELL).numbers, "stage")
    log = copy / "logs" / Run(CELL, 0).name / "train.log"
    log.parent.mkdir(parents=True)
    attempts = ("ended unfinished after 100.0 s", "ended unfinished after 7.5 s", "finished")
    head = "-- 2026-02-03T04:05:06+00:00 on node7, job 42\n"
    log.write_text("".join(f"{head}{end}\n" for end in attempts))
    rows = by(make_table("cost", copy, ONE_CELL).numbers, "stage")
    assert rows["train"]["seconds_total"] == before["train"]["seconds_total"] + 107.5
    assert rows["train"]["jobs"] == before["train"]["jobs"]
    assert rows["evaluate ood"]["seconds"] == before["evaluate ood"]["seconds"]


def test_data_sets_have_their_stages(copy: Path) -> None:
    write_benchmark(copy / layout.preparation_benchmark("digits"), 2.0)
    write_benchmark(copy / layout.corruption_benchmark("digits", "fog"), 3.0)
    table = make_table("cost", copy, ONE_CELL)
    rows = by(table.numbers, "stage")
    assert (rows["prepare"]["seconds"], rows["prepare"]["images"]) == (2, 190)
    assert rows["corrupt"]["images_per_second"] == pytest.approx(5 * 3 / 3)
    assert table.shown.loc[("digits", "corrupt"), "Images/job"] == "3 × 5 severities"


def test_another_file_is_refused(copy: Path) -> None:
    (path, *_) = layout.benchmarks(Run(CELL, 0), "train")
    (copy / path).write_text("seconds\n3\n")
    with pytest.raises(RiftError, match=r"train\.tsv: is not a benchmark file of Snakemake"):
        make_table("cost", copy, ONE_CELL)
