"""Run the workflow of the repository in a separate folder, with a small configuration."""

import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml

Configuration = dict[str, Any]
TINY: Configuration = {
    "experiment": "tiny",
    "grid": {
        "datasets": ["digits"],
        "architectures": ["resnet8"],
        "seeds": [0],
        "scopes": ["rift", "module-linear"],
        "autoattack": ["rift"],
    },
    "attack": {"eps": 0.1, "step": 0.05, "steps": 2},
    "augment": {"crop": 1, "flip": False},
    "train": {"epochs": 1, "learning_rate": 0.05},
    "criticality": {"images": 64, "passes": 2},
    "finetune": {"epochs": 1},
    "interpolate": {"alphas": [0, 0.5, 1], "images": 60, "restarts": 1},
    "evaluate": {
        "standard": {"images": 50},
        "ood": {"corruptions": ["contrast", "gaussian_noise"], "images": 50},
        "pgd": {"images": 40, "batch_size": 15},
        "autoattack": {"images": 4},
    },
}
# A smaller grid, with every stage and few jobs.
SMALL: Configuration = {
    **TINY,
    "experiment": "small",
    "grid": {
        "datasets": ["digits"],
        "architectures": ["resnet8"],
        "seeds": [0],
        "scopes": ["module-linear"],
        "autoattack": [],
    },
    "train": {"epochs": 2, "learning_rate": 0.05},
    "evaluate": {
        "standard": {"images": 50},
        "ood": {"corruptions": ["contrast"], "images": 50},
        "pgd": {"images": 40, "batch_size": 15},
    },
    "report": {"tables": ["main"], "figures": ["training"]},
}
RUN = Path("results/tiny/runs/digits/resnet8/pgd/seed0")


class Workflow:
    """A separate folder in which the workflow of the repository runs.

    Attributes:
        environment: environment of Snakemake; None for that of the tests.
        output: file that all runs append their output to; None for pipes, which fill up if a run
            says more than 64 KB before somebody reads them.
    """

    def __init__(
        self,
        repository: Path,
        folder: Path,
        environment: dict[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        self.repository, self.folder = repository, folder
        self.environment = environment
        self.output = output

    def __call__(
        self, configuration: Configuration, *words: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(configuration, *words)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def start(self, configuration: Configuration, *words: str) -> subprocess.Popen[str]:
        """Start Snakemake, and return its process."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(configuration))
        where = [
            "--snakefile",
            str(self.repository / "workflow/Snakefile"),
            "--directory",
            str(self.folder),
        ]
        with nullcontext(subprocess.PIPE) if self.output is None else self.output.open("a") as out:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "snakemake",
                    *where,
                    "--configfile",
                    self.folder / "config.yaml",
                    "--cores",
                    "2",
                    *words,
                ],
                stdout=out,
                stderr=out,
                text=True,
                cwd=self.folder,
                env=self.environment,
            )

    def jobs(self, configuration: Configuration) -> dict[str, int]:
        """Return the jobs that a dry run lists."""
        answer = self(configuration, "--dry-run")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return {
            rule: int(count)
            for rule, count in re.findall(r"^(\w+) +(\d+)$", answer.stdout + answer.stderr, re.M)
        }
