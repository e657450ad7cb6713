"""An experiment that nothing disturbs, and what must be equal after a fault."""

from pathlib import Path

import pytest

from tests.workflow.running import SMALL, Workflow

ONE_CORE = ("--cores", "1")


@pytest.fixture(scope="session")
def undisturbed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the content of all results of a run without a fault, by path."""
    workflow = Workflow(repository, tmp_path_factory.mktemp("undisturbed"))
    answer = workflow(SMALL, *ONE_CORE)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return contents(workflow.folder)


def contents(folder: Path, name: str = "small") -> dict[str, bytes]:
    """Return the content of all results of an experiment, without files that contain times."""
    results = folder / "results" / name
    return {
        path.relative_to(results).as_posix(): path.read_bytes()
        for top in ("data", "runs", "transfers", "tables")
        for path in sorted((results / top).rglob("[!.]*"))
        # The history of a training contains its speed.
        if path.is_file() and path.name != "training.csv"
    }


def differing(before: dict[str, bytes], now: dict[str, bytes]) -> list[str]:
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
