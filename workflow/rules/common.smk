import os
import re
from pathlib import Path

import rift.config
from rift import layout
from rift.artifacts import stage_version, workflow_lock
from rift.artifacts.origins import stale_bases
from rift.config import start_of_scope
from rift.data.raw import stale_data
from rift.errors import RiftError
from rift.layout import Cell, Run
from rift.lineage.configuration import record_experiment

try:
    for path in workflow.configfiles:
        # This is stricter than Snakemake, which uses the last of repeated keys.
        rift.config.load(Path(path))
    experiment = rift.config.parse(config, ", ".join(str(path) for path in workflow.configfiles))
    for run in experiment.runs:
        experiment.code(run)
except RiftError as error:
    raise WorkflowError(str(error)) from None

# The same command must go on after Snakemake was killed.
snakemake_folder = Path(".snakemake")
if workflow.is_main_process and not workflow.dryrun:
    workflow_lock.release_of_ended(snakemake_folder, experiment.experiment, logger.warning)


onstart:
    # The file stays open, and the process holds its lock, until the run ends.
    global held
    try:
        held = workflow_lock.begin(
            snakemake_folder, experiment.experiment, submits=not workflow.local_exec, tell=logger.warning
        )
    except RiftError as error:
        raise WorkflowError(str(error)) from None
    record_experiment(Path(results), config)


grid = experiment.grid
results = f"results/{experiment.experiment}"
# This is an environment variable and not a flag, because the place of data sets changes no result
# and must not re-run jobs.
os.environ["RIFT_DATA"] = str(experiment.data.folder)


# Snakemake removes the outputs of jobs that ran when it was killed, even if they finished since.
os.environ["RIFT_KEEP_FINISHED"] = "1"


# Jobs on this machine share its GPUs, if the resource is limited. A cluster deals them by itself.
if workflow.is_main_process:
    os.environ.pop("RIFT_GPUS", None)
    if workflow.local_exec and "gpu" in workflow.global_resources:
        gpus = workflow.global_resources["gpu"].value
        os.environ.update(RIFT_GPUS=str(gpus))


# Weights name their architecture, but only the experiment may name files that jobs run.
os.environ["RIFT_ARCHITECTURES"] = ",".join(grid.architectures)


envvars:
    "RIFT_ARCHITECTURES",
    "RIFT_DATA",
    "RIFT_KEEP_FINISHED",


# Bases that come from another source than the experiment says, and data whose raw files have
# changed. Jobs do not look for them again.
stale = {}
if workflow.is_main_process:
    stale = stale_data(experiment, Path(results), snakemake_folder / "rift-raw.json")
    for path, reason in stale.items():
        logger.warning(f"{path}: {reason}; it is made again, and all that follows from it.")
    stale |= dict.fromkeys(stale_bases(experiment, Path(results)))


def made_again_if_stale(path):
    """Let a stale file be made again.

    Snakemake compares dates and settings, and does not notice that a base comes from another rule,
    or that weights or raw data were replaced. The effect is that of --forcerun for this file.
    """
    if path in stale:
        workflow.dag.forcefiles.add(path)


def source_of_base(wildcards, files):
    """Return the source of a base; a base from another source is made again."""
    made_again_if_stale(f"{results}/{wildcards.run}/{layout.BASE}")
    return files


def raw_data(wildcards):
    """Return no file: raw data are outside the results. A set is made again if they have changed."""
    name = getattr(wildcards, "corruption", None)
    file = layout.prepared(wildcards.dataset) if name is None else layout.corrupted(wildcards.dataset, name)
    made_again_if_stale(f"{results}/{file}")
    return []


# Jobs of seconds, which would wait in a cluster's queue for longer.
localrules:
    criticality,
    dataset_figure,
    evaluate_adversarial,
    evaluate_standard,
    figure,
    overview,
    table,


def names(values):
    """Constrain a wildcard to these values; to nothing if there are none."""
    return "|".join(re.escape(str(value)) for value in values) or "(?!)"


def run_of(wildcards):
    """Return the run of a job."""
    return Run.parse(wildcards.run)


def cell_of(wildcards):
    """Return the cell of a figure."""
    return Cell(wildcards.dataset, wildcards.architecture, wildcards.regime)


def settings_of(wildcards):
    """Return the settings of a run."""
    return experiment.settings_of(wildcards.run)


def flags(*sections):
    """Return a function for `params` that writes settings of a run as flags.

    A changed setting re-runs the job.
    """
    return lambda wildcards: experiment.flags(wildcards.run, *sections)


def memory(mb):
    """Return a function for `mem_mb`: a second attempt gets twice as much, and later ones no more.

    Without this limit, a job that fails for another reason soon asks for more than any node has.
    """
    return lambda wildcards, attempt: (mb(wildcards) if callable(mb) else mb) * min(attempt, 2)


def version(stage):
    """Return the version of a stage for `params`, if its results have ever changed.

    A new version re-runs its jobs. Snakemake prints the text as the reason.
    """
    number = stage_version(stage)
    # These two were numbers when they were recorded: a text would re-run their jobs.
    if (stage, number) in [("criticality", 2), ("transfer", 2)]:
        return {"version": number}
    return {"version": f"version {number} of {stage}"} if number > 1 else {}


def code_of(wildcards):
    """Return the file of an architecture from outside; an edit of it re-runs the job."""
    return experiment.code(run_of(wildcards))


def prepared_of(wildcards):
    """Return the prepared data set of a run."""
    return f"{results}/{layout.prepared(run_of(wildcards).cell.target)}"


def earned_of(wildcards):
    """Return the weights of another scope that a scope starts from; nothing if it is the base."""
    start = start_of_scope(wildcards.scope)
    return [] if start is None else f"{results}/{wildcards.run}/{layout.finetuned(start)}"


def start_of_finetuning(wildcards):
    """Return the weights that the fine-tuning of a scope starts from."""
    return earned_of(wildcards) or f"{results}/{wildcards.run}/{layout.BASE}"


def weights_of(wildcards):
    """Return the weights of a variant: the base, or the selected point of a scope."""
    return f"{results}/{wildcards.run}/{layout.weights(wildcards.variant)}"


def below_runs(runs, *files):
    """Return files of runs."""
    return [f"{results}/{run.name}/{file}" for run in runs for file in files]


wildcard_constraints:
    run=names(run.name for run in (*experiment.runs, *experiment.outside)),
    dataset=names([*experiment.datasets, *grid.transfers]),
    architecture=names(grid.architectures),
    regime=names({cell.regime: None for cell in experiment.cells}),
    corruption=names({name for dataset in experiment.datasets for name in experiment.corruptions(dataset)}),
    shard="[0-9]+",
    shards="[0-9]+",
    scope=names(grid.scopes),
    variant=names(grid.variants),
    table=names(experiment.tables),
    figure=names(experiment.report.figures),
