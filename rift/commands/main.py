"""The command ``rift``: it parses the flags, runs a stage, and sets the exit status."""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSubCommand,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    get_subcommand,
)

from rift import artifacts, config
from rift.artifacts.attempts import ADOPTED
from rift.commands.attempts import logged_attempt
from rift.commands.command import Command, say
from rift.commands.criticality import Criticality, Examples, MergeCriticality
from rift.commands.dealing import dealt_gpus
from rift.commands.evaluate import (
    Crosscheck,
    EvaluateAdversarial,
    EvaluateOod,
    EvaluateStandard,
    MergeAdversarial,
)
from rift.commands.exchange import Export, Import
from rift.commands.experiment import Init, Run
from rift.commands.finetune import Finetune, Interpolate
from rift.commands.improve import Improve
from rift.commands.lineage import Archive, Show, Verify
from rift.commands.parsing import parse
from rift.commands.prepare import Corrupt, Prepare
from rift.commands.report import Compare, Figure, Overview, Table
from rift.commands.roles import OUTPUT
from rift.commands.tools import Doctor, Schema
from rift.commands.train import Train
from rift.commands.transfer import Transfer
from rift.errors import RiftError, Stopped, first_line, is_out_of_memory

KEEP_FINISHED = "RIFT_KEEP_FINISHED"
"""Environment variable that the workflow sets: long stages keep finished outputs for adoption."""


def _stage(command: type[BaseModel], alias: str | None = None) -> Any:
    """Return a field that describes a command in the help with the docstring of the command."""
    return Field(description=command.__doc__, alias=alias)


class Evaluate(BaseModel):
    """Measure a model on test images."""

    model_config = ConfigDict(extra="forbid")

    standard: CliSubCommand[EvaluateStandard] = _stage(EvaluateStandard)
    ood: CliSubCommand[EvaluateOod] = _stage(EvaluateOod)
    adversarial: CliSubCommand[EvaluateAdversarial] = _stage(EvaluateAdversarial)


class Merge(BaseModel):
    """Merge the shards of a stage."""

    model_config = ConfigDict(extra="forbid")

    criticality: CliSubCommand[MergeCriticality] = _stage(MergeCriticality)
    adversarial: CliSubCommand[MergeAdversarial] = _stage(MergeAdversarial)


class Rift(BaseSettings):
    """Improve the accuracy of robust classifiers by robust critical fine-tuning (RiFT)."""

    model_config = SettingsConfigDict(
        cli_prog_name="rift",
        cli_avoid_json=True,
        cli_implicit_flags=False,
        cli_hide_none_type=True,
    )

    init: CliSubCommand[Init] = _stage(Init)
    run: CliSubCommand[Run] = _stage(Run)
    improve: CliSubCommand[Improve] = _stage(Improve)
    prepare: CliSubCommand[Prepare] = _stage(Prepare)
    corrupt: CliSubCommand[Corrupt] = _stage(Corrupt)
    train: CliSubCommand[Train] = _stage(Train)
    transfer: CliSubCommand[Transfer] = _stage(Transfer)
    import_: CliSubCommand[Import] = _stage(Import, alias="import")
    export: CliSubCommand[Export] = _stage(Export)
    examples: CliSubCommand[Examples] = _stage(Examples)
    criticality: CliSubCommand[Criticality] = _stage(Criticality)
    finetune: CliSubCommand[Finetune] = _stage(Finetune)
    interpolate: CliSubCommand[Interpolate] = _stage(Interpolate)
    evaluate: CliSubCommand[Evaluate] = _stage(Evaluate)
    merge: CliSubCommand[Merge] = _stage(Merge)
    crosscheck: CliSubCommand[Crosscheck] = _stage(Crosscheck)
    table: CliSubCommand[Table] = _stage(Table)
    compare: CliSubCommand[Compare] = _stage(Compare)
    figure: CliSubCommand[Figure] = _stage(Figure)
    overview: CliSubCommand[Overview] = _stage(Overview)
    show: CliSubCommand[Show] = _stage(Show)
    verify: CliSubCommand[Verify] = _stage(Verify)
    archive: CliSubCommand[Archive] = _stage(Archive)
    doctor: CliSubCommand[Doctor] = _stage(Doctor)
    schema_: CliSubCommand[Schema] = _stage(Schema, alias="schema")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return only the flags, so that an environment variable TRAIN has no effect."""
        return (init_settings,)


def run(command: Command) -> None:
    """Check the outputs of a command, and run it.

    Raises:
        RiftError: the user can solve the problem, for example too little memory.
        Stopped: after SIGTERM or SIGINT.
    """
    command.check_outputs()
    artifacts.commit()
    outputs = [path for _, path in command.paths(OUTPUT)]
    in_workflow = bool(os.environ.get(KEEP_FINISHED))
    # Processes that train together have one log, and must not decide about adoption one by one.
    alone = in_workflow and "RANK" not in os.environ
    with logged_attempt() if alone else nullcontext(), dealt_gpus(command.gpus if alone else 0):
        if not (alone and command.adoptable):
            _compute(command, outputs)
        elif not _compute_or_adopt(command, outputs):
            return
        keeps = (command.adoptable or command.rescues) and in_workflow
        if keeps and os.environ.get("RANK", "0") == "0":
            artifacts.keep_finished(outputs)


def _compute_or_adopt(command: Command, outputs: list[Path]) -> bool:
    """Run a command unless its outputs are finished, and return whether it ran.

    A job of a workflow that was killed may still be working on them, and several jobs may have
    waited for it: one of them goes on, and the others wait again.
    """
    waited = False
    while True:
        waited |= any(_wait_for_other_process(path) for path in outputs)
        if _adopts(command, outputs, just_made=waited):
            return False
        try:
            _compute(command, outputs)
        except artifacts.LockedError:
            waited = True
        else:
            return True


def _adopts(command: Command, outputs: list[Path], *, just_made: bool) -> bool:
    """Adopt finished outputs if there are any, and return whether there were."""
    if not artifacts.adopt_finished(
        outputs, lambda: _as_json(command.provenance()), just_made=just_made
    ):
        return False
    names = " and ".join(str(artifacts.finished_name(path)) for path in outputs)
    say(f"{ADOPTED} {names}; delete them and the outputs to compute them again")
    return True


def _compute(command: Command, outputs: list[Path]) -> None:
    """Run a command, and complete its messages about damaged inputs and too little memory.

    Raises:
        RiftError: the user can solve the problem.
    """
    try:
        command.run()
    except artifacts.LockedError:
        raise
    except RiftError as error:
        kept = [path for path in map(artifacts.finished_name, outputs) if path.exists()]
        if not command.rescues or not kept:
            raise
        pairs = ", ".join(f"{artifacts.finished_name(path)} to {path}" for path in outputs)
        raise RiftError(
            f"{error}\n  the outputs before are kept; to use them, move {pairs}"
        ) from error
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        reason = "" if isinstance(error, MemoryError) else f" ({first_line(error)})"
        raise RiftError(f"out of memory; lower {command.memory}{reason}") from error


def _wait_for_other_process(output: Path) -> bool:
    """Wait until no other process works on an output, and return whether one did."""
    return artifacts.wait_until_unlocked(
        output.with_name(f"{output.name}.lock"),
        lambda: say(f"{output}: another process is working on it; waiting for its end"),
    )


def _as_json(source: artifacts.Provenance) -> artifacts.Provenance:
    """Return a provenance as it is after it was written and read."""
    return dict(json.loads(json.dumps(source)))


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: with status 2 for wrong flags, 1 for other problems that the user can solve, and
            128 plus the number of the signal after SIGTERM or SIGINT.
    """
    arguments = sys.argv[1:] or ["--help"]
    # Help and tables contain characters that the locale's encoding may lack.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        run(_command_of(parse(Rift, arguments)))
    except ValidationError as error:
        words = list(_command_words(error, arguments))
        message = config.describe(error, " ".join(["rift", *words]), "--", len(words))
        for name in ("name", "folder", "config", "path"):  # arguments without a flag
            message = message.replace(f"--{name}:", f"{name.upper()}:")
        print(message, file=sys.stderr)
        raise SystemExit(2) from error
    except SettingsError as error:
        print(f"rift: {error}; see --help", file=sys.stderr)
        raise SystemExit(2) from error
    except RiftError as error:
        print(f"rift: error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except Stopped as stop:
        print(f"rift: {stop}; run the same command again to continue", file=sys.stderr)
        raise SystemExit(stop.exit_status) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _command_of(parsed: BaseModel) -> Command:
    """Return the selected command, from within its group if it has one."""
    while not isinstance(parsed, Command):
        parsed = cast("BaseModel", get_subcommand(parsed, cli_exit_on_error=False))
    return parsed


def _command_words(error: ValidationError, arguments: list[str]) -> Iterator[str]:
    """Yield the words of the command; the location of every validation error starts with them."""
    path = [str(part) for part in error.errors()[0]["loc"]]
    groups = ("evaluate", "merge")
    yield from path[: 2 if arguments[0] in groups else 1]
