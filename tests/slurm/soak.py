"""Kill jobs and Snakemake at random for some minutes, and compare the results of the run.

    python -m tests.slurm.soak --minutes 10 --cells 24

A grid of digits goes through a real Slurm of one node. Every few seconds, a program of a job gets
SIGKILL or SIGTERM, a job is cancelled, or Snakemake itself gets SIGKILL and the same command is
given again. Then the run goes on undisturbed to its end. Its tables and weights must be those of a
local run, byte for byte. The exit status is 0 if they are.

The seed decides what is done. When a kill meets which job also depends on the machine.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tests.golden import digests
from tests.slurm.cluster import Cluster, missing, until
from tests.slurm.running import OnSlurm, differing
from tests.workflow.running import TINY, Configuration, Workflow

DATASETS = ("digits-0-4", "digits-5-9", "digits", "digits-2-7")
REGIMES = ("pgd", "trades", "mart", "awp")
TRANSFERS = ("digits-0-4-to-digits-5-9", "digits-5-9-to-digits-0-4")
METHODS = ("at", "twins-at", "trades", "twins-trades")
# Cells by the numbers of data sets, regimes, transfers and methods.
SIZES = {2: (1, 1, 1, 1), 4: (1, 2, 1, 2), 6: (2, 2, 1, 2), 12: (3, 3, 1, 3), 24: (4, 4, 2, 4)}
# Snakemake is killed less often: afterwards all of its jobs have to end first.
KILLS = {"SIGKILL": 6, "SIGTERM": 6, "scancel": 6, "Snakemake": 1}
PAUSE = 2.0, 8.0
"""Least and most seconds between two kills."""
PATIENCE = 30.0
"""Seconds that jobs of a killed Snakemake may work on until they are cancelled."""
LIMIT_MINUTES = 100
"""Minutes after which everything is stopped, whatever happens."""
RIFT = "/bin/rift\0"


def grid(cells: int) -> Configuration:
    """Return an experiment with every long stage, and few jobs per cell.

    Args:
        cells: number of cells, one of ``SIZES``.
    """
    datasets, regimes, transfers, methods = SIZES[cells]
    return {
        **TINY,
        "experiment": "soak",
        "grid": {
            "datasets": list(DATASETS[:datasets]),
            "architectures": ["resnet8"],
            "regimes": list(REGIMES[:regimes]),
            "seeds": [0],
            "scopes": ["module-linear"],
            "autoattack": [],
            "transfers": list(TRANSFERS[:transfers]),
            "methods": list(METHODS[:methods]),
        },
        "train": {"epochs": 4, "learning_rate": 0.05},
        "transfer": {"epochs": 3},
        "evaluate": {**TINY["evaluate"], "ood": {"corruptions": ["contrast"], "images": 50}},
        "report": {"tables": ["main", "transfer", "criticality"], "figures": ["contact-sheet"]},
    }


@dataclass
class Soak:
    """A run through Slurm that is disturbed at random.

    Attributes:
        tried: kills of each kind that were tried.
        kills: kills of each kind that met something.
        starts: how often Snakemake was started.
        seconds: seconds from the first start to the end of the run.
    """

    cluster: Cluster
    workflow: Workflow
    configuration: Configuration
    seed: int = 0
    tried: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    seconds: float = 0.0

    def run(self, kill_seconds: float, limit_seconds: float) -> None:
        """Run the workflow to its end, and kill for some time.

        Args:
            kill_seconds: seconds after which nothing is killed any more.
            limit_seconds: seconds after which the run is given up.

        Raises:
            TimeoutError: the run did not end.
        """
        chance = random.Random(self.seed)
        begun = time.monotonic()
        process = self._start()
        try:
            while process.poll() != 0:
                elapsed = time.monotonic() - begun
                if elapsed > limit_seconds:
                    raise TimeoutError(f"the run did not end within {limit_seconds:.0f} seconds")
                if process.poll() is not None:
                    process = self._start_again()
                elif elapsed < kill_seconds:
                    _wait(process, chance.uniform(*PAUSE))
                    self._kill(process, chance)
                else:
                    _wait(process, 1)
        finally:
            process.kill()
            process.wait()
            self.seconds = time.monotonic() - begun

    def _start(self) -> subprocess.Popen[str]:
        self.starts += 1
        return self.workflow.start(self.configuration)

    def _start_again(self) -> subprocess.Popen[str]:
        """Give the same command again, once the jobs of the last one are gone.

        Snakemake refuses to start before. Its message offers both: to wait, and to cancel them.
        """
        with suppress(AssertionError):
            until(lambda: not self.cluster.jobs(), PATIENCE, "the jobs")
        self.cluster.says("scancel", "--user", "root")
        until(lambda: not self.cluster.jobs(), 20 * PATIENCE, "the end of cancelled jobs")
        return self._start()

    def _kill(self, process: subprocess.Popen[str], chance: random.Random) -> None:
        """Kill something, if it is there."""
        (kind,) = chance.choices(list(KILLS), list(KILLS.values()))
        if kind == "Snakemake":
            met = process.poll() is None
            process.kill()
            process.wait()
        elif kind == "scancel":
            jobs = sorted(self.cluster.jobs("RUNNING"))
            met = bool(jobs)
            if met:
                self.cluster.says("scancel", chance.choice(jobs))
        else:
            programs = sorted(self.cluster.processes(RIFT))
            met = bool(programs)
            with suppress(ProcessLookupError):
                if met:
                    os.kill(chance.choice(programs), signal.Signals[kind])
        self.tried[kind] += 1
        self.kills[kind] += met


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def attempts(cluster: Cluster) -> tuple[Counter[str], int, int]:
    """Return the jobs by their last state, their seconds, and those of jobs that failed.

    Seconds are of the allocation. A job that Slurm put back into the queue counts once.
    """
    states: Counter[str] = Counter()
    total = lost = 0
    for line in cluster.says("squeue", "--noheader", "--states=all", "--format=%T %M").splitlines():
        state, spent = line.split()
        # D-HH:MM:SS; no job of a soak takes a day.
        seconds = sum(60**n * int(part) for n, part in enumerate(reversed(spent.split(":"))))
        states[state] += 1
        total += seconds
        lost += seconds if state != "COMPLETED" else 0
    return states, total, lost


def summary(soak: Soak, undisturbed: float, wrong: list[str], beyond: list[str]) -> str:
    """Return what happened, for a reader."""
    states, total, lost = attempts(soak.cluster)
    jobs = ", ".join(f"{count} {state.lower()}" for state, count in states.most_common())
    kills = ", ".join(f"{soak.kills[kind]} {kind}" for kind in KILLS)
    grid = soak.configuration["grid"]
    cells = len(grid["datasets"]) * len(grid["regimes"])
    cells += len(grid["transfers"]) * len(grid["methods"])
    longer = soak.seconds - undisturbed
    lines = [
        f"cells: {cells}, seed of the kills: {soak.seed}",
        f"kills: {soak.tried.total()} tried, {soak.kills.total()} met something ({kills})",
        f"jobs attempted: {states.total()} ({jobs})",
        f"runs of Snakemake: {soak.starts}",
        f"time: {soak.seconds:.0f} s through Slurm with kills, {undisturbed:.0f} s undisturbed and"
        f" local: {longer:.0f} s lost",
        f"time of jobs: {total} s, of which {lost} s in attempts that did not end well",
        f"files that the undisturbed run does not have: {', '.join(beyond) or 'none'}",
        f"differing from the undisturbed run: {', '.join(wrong) or 'none'}",
        f"equal: {'no' if wrong else 'yes'}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="minutes with kills (10)")
    parser.add_argument("--cells", type=int, choices=SIZES, default=24, help="size of the grid")
    parser.add_argument("--seed", type=int, default=0, help="seed of the kills (0)")
    arguments = parser.parse_args()
    reason = missing()
    if reason:
        sys.exit(reason)
    # Both end in an exception, so that the cluster is stopped.
    signal.signal(signal.SIGALRM, _give_up)
    signal.signal(signal.SIGTERM, _give_up)
    signal.alarm(60 * LIMIT_MINUTES)
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = Path(tempfile.mkdtemp(prefix="rift-soak-"))
    try:
        equal = compare(folder, arguments.cells, 60 * arguments.minutes, arguments.seed)
    except TimeoutError as error:
        sys.exit(f"{error}; files: {folder}")
    if not equal:
        sys.exit(f"files: {folder}")
    shutil.rmtree(folder)


def compare(folder: Path, cells: int, kill_seconds: float, seed: int) -> bool:
    """Run the grid locally, and through Slurm with kills; print a summary.

    Returns:
        Whether tables and weights of both are equal.

    Raises:
        TimeoutError: this process was asked to stop, or the run did not end in time.
    """
    repository, log = Path(__file__).parents[2], folder / "snakemake.log"
    local, slurm = folder / "local", folder / "slurm"
    for place in (local, slurm):
        place.mkdir()
    print(f"undisturbed local run in {folder}", flush=True)
    begun = time.monotonic()
    process = Workflow(repository, local, output=log).start(grid(cells))
    try:
        if process.wait():
            print(f"the undisturbed run failed: {log}")
            return False
    finally:
        process.terminate()
    undisturbed = time.monotonic() - begun
    print(f"{undisturbed:.0f} s; now through Slurm, with kills", flush=True)
    with Cluster(gpus=2) as cluster:
        workflow = OnSlurm(repository, slurm, cluster.environment, log)
        soak = Soak(cluster, workflow, grid(cells), seed)
        wrong, beyond = ["the run did not end"], list[str]()
        try:
            soak.run(kill_seconds, 60 * LIMIT_MINUTES)
            one, other = slurm / "results/soak", local / "results/soak"
            wrong = differing(one, other)
            beyond = sorted({*digests(one)} - {*digests(other)})
        finally:
            print(summary(soak, undisturbed, wrong, beyond), flush=True)
    return not wrong


def _give_up(number: int, _frame: object) -> NoReturn:
    raise TimeoutError(f"stopped by {signal.Signals(number).name}")


if __name__ == "__main__":
    main()
