"""Experiments in folders of their own: ``rift init`` and ``rift run``."""

import importlib.util
import shlex
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from time import monotonic

from pydantic import Field
from pydantic_settings import CliPositionalArg

from rift import config, layout, running
from rift.artifacts import workflow_lock
from rift.commands.command import Command, say
from rift.config import Duration
from rift.errors import RiftError
from rift.running.snakemake import PROFILES, SNAKEFILE

CONFIG = Path("config/config.yaml")

OUT_OF_TIME = 124
"""Exit status of a run that was stopped by ``--time``, as that of the command ``timeout``."""


class Init(Command):
    """Write the folder of an experiment: a Snakefile, and a configuration to edit."""

    stage = "init"

    folder: CliPositionalArg[Path] = Field(
        description="Folder to write. It must not exist, or be empty."
    )
    example: str = Field(
        "demo", description="Shipped experiment to start from, such as demo or cifar10-laptop."
    )

    def run(self) -> None:
        shipped = layout.examples_folder()
        source = shipped / f"{self.example}.yaml"
        known = sorted(path.stem for path in shipped.glob("*.yaml"))
        if self.example not in known:
            raise RiftError(
                f"--example: {self.example!r} is not a shipped experiment; choose"
                f" {', '.join(known)}"
            )
        if self.folder.exists() and not (self.folder.is_dir() and not any(self.folder.iterdir())):
            raise RiftError(f"{self.folder}: exists and is not empty; choose another folder")
        workflow = layout.workflow_folder()
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            # A folder that is written halfway would look like an experiment.
            with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".rift-") as temporary:
                written = Path(temporary) / "experiment"
                for path in (CONFIG, PROFILES):
                    (written / path).parent.mkdir(parents=True)
                shutil.copyfile(source, written / CONFIG)
                shutil.copyfile(shipped / "schema.json", written / CONFIG.with_name("schema.json"))
                shutil.copyfile(workflow / "template/Snakefile", written / SNAKEFILE)
                shutil.copytree(workflow / "profiles", written / PROFILES)
                # The target may be an empty folder, which a rename replaces.
                written.replace(self.folder)
        except OSError as error:
            raise RiftError(
                f"{self.folder}: cannot be written: {error.strerror}; choose another folder"
            ) from error
        say(f"wrote {self.folder}; edit {self.folder / CONFIG}")
        say(f"to run it: cd {shlex.quote(str(self.folder))} && rift run")


class Run(Command):
    """Run an experiment by Snakemake, from data to report; an interrupted run continues."""

    stage = "run"

    config: CliPositionalArg[Path] = Field(CONFIG, description="Experiment file.")
    profile: str = Field(
        "default",
        pattern=r"^\w[\w.-]*$",
        description="Folder in workflow/profiles with the settings of Snakemake, such as slurm.",
    )
    cores: str | None = Field(
        None,
        pattern="^(all|[1-9][0-9]*)$",
        description="CPU cores to use: a number, or all. The profile says how many if it is"
        " omitted.",
    )
    dry_run: bool = Field(False, description="Only list the jobs that would run.")
    time: Duration | None = Field(
        None,
        description="Time after which the run is stopped, such as 90s, 30m or 2h, with exit status"
        f" {OUT_OF_TIME}. Jobs save their state within it, and the same command continues.",
    )
    raw: bool = Field(
        False,
        description="Show the whole output of Snakemake. Otherwise it is in a file, and a view"
        " shows the jobs.",
    )
    snakemake: str = Field(
        "",
        description="Further options for Snakemake, in quotes and after an equals sign:"
        " --snakemake='--resources gpu=1'.",
    )
    unlock: bool = Field(
        False,
        description="Only remove the lock of a run that was killed. No other run may be working in"
        " this folder.",
    )

    def run(self) -> None:
        if importlib.util.find_spec("snakemake") is None:
            raise RiftError(
                "Snakemake is not installed; install rift again with its extra: workflow"
            )
        # Mistakes in the file are said at once, and without the log of Snakemake.
        experiment = config.read(self.config)
        for base in experiment.imports.values():
            for file in base.files:
                if not Path(file).is_file():
                    raise RiftError(
                        f"{self.config}: base: {file} does not exist; correct its path, which is"
                        " relative to the working directory"
                    )
        if not (self.unlock or self.dry_run):
            # Snakemake and its jobs outlive a killed `rift run`. The same command must go on.
            workflow_lock.wait_for_running(Path(".snakemake"), experiment.experiment, say)
        words, environment = self._words(), running.environment_of_jobs()
        report = f"results/{experiment.experiment}/report.html"
        options = ["--unlock"] if self.unlock else ["--dry-run"] if self.dry_run else []
        until = None if self.time is None else monotonic() + config.seconds_of(self.time)
        if not options and not self.raw:
            self._watch(experiment.experiment, words, environment, report, until)
            return
        command = [sys.executable, "-m", "snakemake", *words]
        status = running.supervise([*command, *options], environment, until=until)
        _end_if_failed(status, until)
        if not options:
            writing = [*command, "--report", report]
            _end_if_failed(running.supervise(writing, environment, until=until), until)
            say(f"report: {report}")

    def _words(self) -> list[str]:
        """Return the options of Snakemake.

        Raises:
            RiftError: there is no such profile, the package of its executor is not installed, or
                the options that were passed on have unbalanced quotes.
        """
        words = running.options_of(self.config, self.cores, profile=self.profile)
        try:
            return [*words, *shlex.split(self.snakemake)]
        except ValueError as error:
            raise RiftError(
                f"--snakemake: {error} in {self.snakemake!r}; close every quotation mark"
            ) from error

    def _watch(
        self,
        name: str,
        words: list[str],
        environment: dict[str, str],
        report: str,
        until: float | None,
    ) -> None:
        """Run Snakemake with a view of its jobs; its output is in a file.

        Raises:
            RiftError: the file cannot be written.
            SystemExit: with the status of Snakemake, if it is not 0.
        """
        output = Path(f"results/{name}/logs/run-{datetime.now():%Y-%m-%dT%H%M%S}.log")
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.touch()
        except OSError as error:
            raise RiftError(
                f"{output}: cannot be written: {error.strerror}; check the folder's permissions"
            ) from error
        with running.opened_view(name) as view:
            ended = running.watch(
                words, environment, view, output, doing="reading the workflow", until=until
            )
            if ended.status == 0 and not ended.ran:
                # An option such as --list-rules asked for this output.
                view.say(output.read_text(encoding="utf-8", errors="replace").rstrip())
                output.unlink()
                return
            if ended.status == 0:
                running.say_result(view, ended)
                writing = [*words, "--report", report]
                ended = running.watch(
                    writing, environment, view, output, doing="writing the report", until=until
                )
            if ended.status == 0:
                view.say(f"report: {report}")
            else:
                running.say_failure(view, ended, output)
            view.say(f"full output: {output}")
        _end_if_failed(ended.status, until)


def _end_if_failed(status: int, until: float | None) -> None:
    """End with the status of Snakemake if it is not 0, or say that the time was over.

    Raises:
        SystemExit: with this status, or with ``OUT_OF_TIME``.
    """
    if status == 0:
        return
    if until is not None and monotonic() >= until:
        raise SystemExit(OUT_OF_TIME)
    if any(Path(".snakemake/locks").glob("*")):
        say(
            "the folder is locked; wait for the other run, or, if there is none, remove the"
            " lock by: rift run --unlock"
        )
    raise SystemExit(status)
