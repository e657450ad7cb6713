"""Run the workflow through a Slurm for tests, look for its jobs, and compare its results."""

import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.golden import digests
from tests.slurm.cluster import Cluster
from tests.workflow.running import TINY, Configuration, Workflow

# Every kind of job that the paper's grid has, except for AutoAttack. Training and fine-tuning take
# long enough to be killed within an epoch.
GRID: Configuration = {
    **TINY,
    "grid": {**TINY["grid"], "scopes": ["rift"], "autoattack": []},
    "train": {"epochs": 12, "learning_rate": 0.05},
    "finetune": {"epochs": 12},
    "criticality": {"images": 64, "passes": 2, "shards": 2},
    "evaluate": {**TINY["evaluate"], "ood": {"corruptions": ["contrast"], "images": 50}},
    "report": {"tables": ["main", "criticality", "cost"], "figures": ["interpolation"]},
}
LIMIT = 1200
"""Seconds after which a test fails; a machine with other work is several times slower."""


class OnSlurm(Workflow):
    """The workflow with the shipped profile; it looks at its jobs every second.

    Attributes:
        resources: resources of rules that differ from the profile's.
    """

    resources: Mapping[str, Mapping[str, Any]] = {}

    def start(self, configuration: Configuration, *words: str) -> subprocess.Popen[str]:
        profile = self.repository / "workflow/profiles/slurm"
        if self.resources:
            # On the command line, they would replace all of the profile's.
            content = yaml.safe_load((profile / "profile.yaml").read_text())
            for rule, values in self.resources.items():
                content["set-resources"].setdefault(rule, {}).update(values)
            profile = self.folder / "profile"
            profile.mkdir(exist_ok=True)
            (profile / "profile.yaml").write_text(yaml.safe_dump(content))
        flags = ["--workflow-profile", str(profile), "--latency-wait", "10"]
        flags += ["--slurm-init-seconds-before-status-checks", "1"]
        return super().start(configuration, *words, *flags)


def running_job(cluster: Cluster, rule: str, *, after: Collection[str] = ()) -> str:
    """Return the number of a job of a rule that runs; nothing if none does.

    Args:
        cluster: cluster to look at.
        rule: name of the rule.
        after: numbers of jobs that do not count.
    """
    comments = f"rule_{rule}", f"rule_{rule}_wildcards_"
    return next(
        (
            job
            for job, comment in cluster.jobs("RUNNING").items()
            if job not in after and (comment == comments[0] or comment.startswith(comments[1]))
        ),
        "",
    )


def differing(results: Path, undisturbed: Path) -> list[str]:
    """Return what is not as in the results of an undisturbed run.

    Tables and weights are compared as files, byte for byte, and everything else by its numbers.
    Times are left out, and so is what only the other folder has.
    """
    files = [*undisturbed.glob("tables/*"), *undisturbed.rglob("[!.]*.safetensors")]
    wrong = []
    for path in files:
        name = path.relative_to(undisturbed)
        # Lineages contain digests of files with times.
        if path.stem == "cost" or name.name.endswith(".lineage.json"):
            continue
        other = results / name
        if not other.exists() or other.read_bytes() != path.read_bytes():
            wrong.append(str(name))
    numbers = digests(results)
    wrong += [part for part, digest in digests(undisturbed).items() if numbers.get(part) != digest]
    return sorted(set(wrong))
