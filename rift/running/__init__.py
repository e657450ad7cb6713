"""Running Snakemake: its process, the events that it reports, and the view of a run."""

from rift.running.process import supervise
from rift.running.snakemake import environment_of_jobs, options_of, run_snakemake
from rift.running.view import opened_view
from rift.running.watching import say_failure, say_result, watch

__all__ = [
    "environment_of_jobs",
    "opened_view",
    "options_of",
    "run_snakemake",
    "say_failure",
    "say_result",
    "supervise",
    "watch",
]
