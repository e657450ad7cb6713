"""Experiments in folders of their own: ``rift init`` and ``rift run``."""

import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

from pydantic import Field
from pydantic_settings import CliPositionalArg

from rift import config, layout
from rift.commands.command import Command, say
from rift.errors import RiftError

CONFIG = Path("config/config.yaml")
SNAKEFILE = Path("workflow/Snakefile")
PROFILE = Path("workflow/profiles/default")


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
                for path in (CONFIG, PROFILE):
                    (written / path).parent.mkdir(parents=True)
                shutil.copyfile(source, written / CONFIG)
                shutil.copyfile(shipped / "schema.json", written / CONFIG.with_name("schema.json"))
                shutil.copyfile(workflow / "template/Snakefile", written / SNAKEFILE)
                shutil.copytree(workflow / "profiles/default", written / PROFILE)
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
    cores: str = Field(
        "all", pattern="^(all|[1-9][0-9]*)$", description="CPU cores to use: a number, or all."
    )
    dry_run: bool = Field(False, description="Only list the jobs that would run.")
    unlock: bool = Field(
        False,
        description="Only remove the lock that a run left behind that ended without notice. No"
        " other run may be working in this folder.",
    )

    def run(self) -> None:
        if importlib.util.find_spec("snakemake") is None:
            raise RiftError(
                "Snakemake is not installed; install rift again with its extra: workflow"
            )
        # Mistakes in the file are said at once, and without the log of Snakemake.
        experiment = config.read(self.config)
        options = ["--unlock"] if self.unlock else ["--dry-run"] if self.dry_run else []
        self._snakemake(*options)
        if not options:
            report = f"results/{experiment.experiment}/report.html"
            self._snakemake("--report", report)
            say(f"report: {report}")

    def _snakemake(self, *options: str) -> None:
        """Run Snakemake, and pass signals on to it and to its jobs.

        Raises:
            SystemExit: with the status of Snakemake, if it is not 0.
        """
        own = SNAKEFILE.is_file()
        folder = Path() if own else layout.workflow_folder().parent
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / SNAKEFILE)]
        command += ["--configfile", str(self.config), "--cores", self.cores]
        if (folder / PROFILE).is_dir():
            command += ["--workflow-profile", str(folder / PROFILE)]
        # Jobs call rift by its name.
        scripts = str(Path(sys.executable).parent)
        environment = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")])}
        # In a session of its own, Snakemake and its jobs get a Ctrl-C exactly once: from here.
        process = subprocess.Popen([*command, *options], env=environment, start_new_session=True)

        def forward(number: int, _frame: FrameType | None) -> None:
            if process.poll() is None:
                os.killpg(process.pid, number)

        before = {each: signal.signal(each, forward) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if status != 0:
            if any(Path(".snakemake/locks").glob("*")):
                say(
                    "the folder is locked; wait for the other run, or, if there is none, remove the"
                    " lock by: rift run --unlock true"
                )
            raise SystemExit(128 - status if status < 0 else status)
