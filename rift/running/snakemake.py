"""The command line of Snakemake for an experiment."""

import os
import sys
from pathlib import Path

from rift import layout
from rift.running.process import supervise

SNAKEFILE = Path("workflow/Snakefile")
PROFILE = Path("workflow/profiles/default")


def options_of(configuration: Path, cores: str, *, folder: Path | None = None) -> list[str]:
    """Return the options of Snakemake that run an experiment.

    Args:
        configuration: experiment file.
        cores: CPU cores to use: a number, or all.
        folder: folder to work in, with the experiment's own Snakefile if there is one; by default,
            the working directory.
    """
    start = Path() if folder is None else folder.absolute()
    base = start if (start / SNAKEFILE).is_file() else layout.workflow_folder().parent
    words = ["--snakefile", str(base / SNAKEFILE)]
    words += ["--configfile", str(configuration), "--cores", cores]
    if folder is not None:
        words += ["--directory", str(start)]
    if (base / PROFILE).is_dir():
        words += ["--workflow-profile", str(base / PROFILE)]
    return words


def environment_of_jobs() -> dict[str, str]:
    """Return the environment of Snakemake: its jobs call rift by its name."""
    scripts = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")])}


def run_snakemake(
    configuration: Path, cores: str, *options: str, folder: Path | None = None
) -> int:
    """Run Snakemake, pass signals on to it and to its jobs, and return its exit status.

    Args:
        configuration: experiment file.
        cores: CPU cores to use: a number, or all.
        *options: further words of its command line.
        folder: folder to work in; by default, the working directory.
    """
    words = options_of(configuration, cores, folder=folder)
    command = [sys.executable, "-m", "snakemake", *words, *options]
    return supervise(command, environment_of_jobs())
