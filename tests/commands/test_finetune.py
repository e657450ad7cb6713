"""``rift finetune``: it is stopped, and continues."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rift import artifacts, config
from rift.commands import finetune
from tests.experiment import commands, outputs, rift
from tests.workflow.running import SMALL


@contextmanager
def stopping(_: str) -> Iterator[Any]:
    """Yield a display of progress that asks this process to stop after the second batch."""
    batches = 0

    def progress(*_: object, **__: object) -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    yield progress


def test_a_stopped_fine_tuning_says_where_it_continues_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = commands(tmp_path, config.parse(SMALL, "config.yaml"))
    for stage in ("prepare", "train", "criticality", "finetune"):
        rift(*words[stage])
    assert "continuing" not in capsys.readouterr().err
    made = outputs(words["finetune"])
    weights, history = sorted(made, key=lambda path: path.suffix, reverse=True)
    facts, table = artifacts.read_facts(weights), artifacts.read_provenance(history)
    assert len(facts["modules"]) == 1
    assert table["modules"] == facts["modules"]
    assert table["clean_gradient"] == facts["clean_gradient"] > 0
    before = [path.read_bytes() for path in made]
    for path in made:
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "display", stopping)
        with pytest.raises(SystemExit, match="143"):
            rift(*words["finetune"])
    assert not any(path.exists() for path in made)
    rift(*words["finetune"])
    # A signal is seen after the next batch.
    assert "continuing in epoch 1, after batch 3\n" in capsys.readouterr().err
    assert [path.read_bytes() for path in made] == before


def test_scopes_that_continue_training_have_images_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which setting counts shows in the message about too many images."""
    words = commands(tmp_path, config.parse(SMALL, "config.yaml"))
    for stage in ("prepare", "train", "criticality", "finetune"):
        rift(*words[stage])
    given = list(words["finetune"])
    place = given.index("--scope") + 1
    for scope, setting in (("more-training", "continuation"), ("mixed-training", "mixed")):
        changed = [*given[:place], scope, *given[place + 1 :]]
        with pytest.raises(SystemExit):
            rift(*changed, f"--{setting}.images", "99999", "--regime", "pgd")
        assert f"{setting}.images: is 99999, but the split has" in capsys.readouterr().err
