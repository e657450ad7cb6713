"""The command line of Snakemake for an experiment."""

import importlib.util
import os
import sys
from pathlib import Path

import yaml

from rift import layout
from rift.errors import RiftError
from rift.running.process import supervise

SNAKEFILE = Path("workflow/Snakefile")
PROFILES = Path("workflow/profiles")


def options_of(
    configuration: Path,
    cores: str | None = None,
    *,
    profile: str = "default",
    folder: Path | None = None,
) -> list[str]:
    """Return the options of Snakemake that run an experiment.

    Args:
        configuration: experiment file.
        cores: CPU cores to use: a number, or all; by default, what the profile says.
        profile: folder in ``workflow/profiles`` with the settings of Snakemake.
        folder: folder to work in, with the experiment's own Snakefile if there is one; by default,
            the working directory.

    Raises:
        RiftError: there is no such profile, or the package of its executor is not installed.
    """
    start = Path() if folder is None else folder.absolute()
    base = start if (start / SNAKEFILE).is_file() else layout.workflow_folder().parent
    words = ["--snakefile", str(base / SNAKEFILE), "--configfile", str(configuration)]
    if folder is not None:
        words += ["--directory", str(start)]
    settings = _settings_of(base / PROFILES / profile)
    if not settings and cores is None:
        cores = "all"
    return [*words, *settings, *([] if cores is None else ["--cores", cores])]


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


def _settings_of(profile: Path) -> list[str]:
    """Return the options of Snakemake for a profile; none if there is no default profile."""
    if profile.is_dir():
        plugin = f"snakemake-executor-plugin-{_executor(profile)}"
        if not plugin.endswith("-") and not importlib.util.find_spec(plugin.replace("-", "_")):
            raise RiftError(f"{profile}: needs {plugin}, which is not installed; pip install it")
        return ["--workflow-profile", str(profile)]
    if profile.name == "default":
        return []
    known = ", ".join(sorted({path.parent.name for path in profile.parent.glob("*/*.yaml")}))
    raise RiftError(
        f"--profile: {profile} does not exist; choose {known or 'default'}, or copy it from"
        f" {layout.workflow_folder() / 'profiles'}"
    )


def _executor(profile: Path) -> str:
    """Return the executor that a profile of Snakemake names; nothing for a local one."""
    for file in profile.glob("*.yaml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        name = content.get("executor", "") if isinstance(content, dict) else ""
        if name not in ("", "local"):
            return str(name)
    return ""
