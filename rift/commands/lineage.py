"""Lineage: ``rift show``, ``rift verify`` and ``rift archive``."""

import json
import shutil
import tempfile
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliImplicitFlag, CliPositionalArg

from rift import layout
from rift.commands.command import Command, say
from rift.commands.roles import Output
from rift.errors import RiftError
from rift.running import run_snakemake


class Show(Command):
    """Show where an artifact comes from, back to the checksums of the data, and check all of it.

    The exit status is 1 if something is missing, damaged or does not match.
    """

    stage = "show"

    path: CliPositionalArg[Path] = Field(
        description="Weights, table, figure, outcomes, data or any other file of an experiment."
    )
    # The models of pydantic have a method with the name of the flag.
    as_json: CliImplicitFlag[bool] = Field(
        False, alias="json", description="Print JSON for programs."
    )

    def run(self) -> None:
        from rift.lineage.showing import show
        from rift.lineage.tracing import trace

        node = trace(self.path)
        if self.as_json:
            print(json.dumps(node.facts(), indent=2))
        else:
            show(node)
        if any(each.problems for each in node.walk()):
            raise SystemExit(1)


MOST_SHOWN = 10
"""Largest number of files in a message, after the first."""


class Verify(Command):
    """Run a finished experiment again in a scratch folder, and compare all numbers.

    The results are not changed. The exit status is 1 if a number differs.
    """

    stage = "verify"

    folder: CliPositionalArg[Path] = Field(
        description="Folder of the experiment (results/NAME), which was run to its end."
    )
    cores: str = Field(
        "all", pattern="^(all|[1-9][0-9]*)$", description="CPU cores to use: a number, or all."
    )
    scratch: Path | None = Field(
        None,
        description="Folder for the new run, which must not exist, or be empty; it is kept. The"
        " default is a temporary folder, which is kept only if a number differs.",
    )

    def run(self) -> None:
        from rift.lineage.comparing import compare
        from rift.lineage.completeness import expected_files
        from rift.lineage.configuration import experiment_of

        experiment = experiment_of(self.folder)
        files_made = expected_files(experiment)
        missing = [file for file in files_made if not (self.folder / file).is_file()]
        if missing:
            raise RiftError(
                f"{self.folder}: is not finished: {len(missing)} files are missing, the first is"
                f" {missing[0]}; run the experiment to its end"
            )
        scratch = self._scratch()
        _link_surroundings(self.folder, scratch)
        say(f"running {experiment.experiment} again in {scratch}")
        configuration = (self.folder / layout.CONFIGURATION).absolute()
        again = scratch / "results" / experiment.experiment
        if run_snakemake(configuration, self.cores, "--quiet", "rules", folder=scratch) != 0:
            raise RiftError(f"{self.folder}: cannot be run again; see the logs in {again / 'logs'}")
        differences, files = compare(self.folder, again)
        if not differences:
            print(f"all numbers of {files} files are equal")
            if self.scratch is None:
                # Links are removed, and not what they point to.
                shutil.rmtree(scratch, ignore_errors=True)
            return
        first, *others = differences
        print(f"{first.path}: {first.text}")
        for each in others[:MOST_SHOWN]:
            print(f"  then {each.path}: {each.text}")
        print(f"{len(differences)} of {files} files differ; the new run is in {again}")
        raise SystemExit(1)

    def _scratch(self) -> Path:
        """Return the scratch folder, which is empty.

        Raises:
            RiftError: it contains something, or cannot be created.
        """
        if self.scratch is None:
            return Path(tempfile.mkdtemp(prefix="rift-verify-"))
        try:
            self.scratch.mkdir(parents=True, exist_ok=True)
            used = any(self.scratch.iterdir())
        except OSError as error:
            raise RiftError(
                f"--scratch: {self.scratch}: cannot be created: {error.strerror}; choose another"
                " folder"
            ) from error
        if used:
            raise RiftError(f"--scratch: {self.scratch}: is not empty; choose another folder")
        return self.scratch.absolute()


class Archive(Command):
    """Pack the configuration, versions, tables, figures, report and lineage into one file.

    It refuses results that are incomplete or do not belong together. Equal results give equal
    bytes.
    """

    stage = "archive"

    folder: CliPositionalArg[Path] = Field(description="Folder of the experiment (results/NAME).")
    output: Output[Path] = Field(description="Output: the archive (.zip or .tar.gz).")

    def run(self) -> None:
        from rift.lineage.configuration import experiment_of
        from rift.lineage.packing import pack

        count = pack(self.folder, experiment_of(self.folder), self.output)
        say(f"{self.output}: {count} files, {self.output.stat().st_size / 2**20:.1f} MiB")


def _link_surroundings(results: Path, scratch: Path) -> None:
    """Link what lies beside results into a scratch folder, so that relative paths hold there.

    An experiment may name weights, data and files of architectures below its working folder, and
    other experiments there. Its own results are not linked.
    """
    own = results.absolute()
    (scratch / "results").mkdir()
    for path in own.parent.parent.iterdir():
        if path != own.parent and not path.name.startswith("."):
            (scratch / path.name).symlink_to(path)
    for path in own.parent.iterdir():
        if path != own and not path.name.startswith("."):
            (scratch / "results" / path.name).symlink_to(path)
