import os
import re
from pathlib import Path

import rift.config
from rift.errors import RiftError

try:
    for path in workflow.configfiles:
        rift.config.load(Path(path))  # more strictly than Snakemake, which takes the last of keys that stand twice
    experiment = rift.config.parse(config, ", ".join(str(path) for path in workflow.configfiles))
except RiftError as error:
    raise WorkflowError(str(error)) from None

grid = experiment.grid
# Not as a flag: where data sets lie changes no result, and must re-run nothing.
os.environ["RIFT_DATA"] = str(experiment.data.folder)


envvars:
    "RIFT_DATA",


def names(values):
    """Constrain a wildcard to these values."""
    return "|".join(re.escape(str(value)) for value in values)


def flags(*sections):
    """Settings of a job as flags of its command: a function for `params`, so that a changed setting re-runs the job."""
    return lambda wildcards: experiment.flags(
        *sections,
        **{key: wildcards.get(key) for key in ("dataset", "architecture", "regime") if key in wildcards.keys()},
    )


def run_of(wildcards):
    """Data set, architecture, regime and seed of a job."""
    run = {key: wildcards.get(key) for key in ("dataset", "architecture", "regime")}
    return {**run, "seed": int(wildcards.seed)}


def settings_of(wildcards):
    """Settings of a run."""
    return experiment.settings(wildcards.dataset, wildcards.architecture, wildcards.regime)


cells = {
    "dataset": grid.datasets,
    "architecture": grid.architectures,
    "regime": grid.regimes,
    "seed": grid.seeds,
}
