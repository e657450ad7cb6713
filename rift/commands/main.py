"""The command ``rift``: parse, run, exit status."""

import re
import sys
from collections.abc import Iterator
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSubCommand,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    get_subcommand,
)

from rift import artifacts, config
from rift.commands.command import Command
from rift.commands.criticality import Criticality, Examples, MergeCriticality
from rift.commands.evaluate import (
    Crosscheck,
    EvaluateAdversarial,
    EvaluateOod,
    EvaluateStandard,
    MergeAdversarial,
)
from rift.commands.exchange import Export, Import
from rift.commands.finetune import Finetune, Interpolate
from rift.commands.prepare import Corrupt, Prepare
from rift.commands.report import Compare, Figure, Overview, Table
from rift.commands.tools import Doctor, Schema
from rift.commands.train import Train
from rift.errors import RiftError, Stopped

OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory")


def _stage(command: type[BaseModel], alias: str | None = None) -> Any:
    """List a command in the help with the summary that its own help begins with."""
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
    """Robust critical fine-tuning: more accuracy for adversarially trained classifiers, at no cost in robustness."""

    model_config = SettingsConfigDict(
        cli_prog_name="rift",
        cli_avoid_json=True,
        cli_implicit_flags=False,
        cli_hide_none_type=True,
    )

    prepare: CliSubCommand[Prepare] = _stage(Prepare)
    corrupt: CliSubCommand[Corrupt] = _stage(Corrupt)
    train: CliSubCommand[Train] = _stage(Train)
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
        """Read flags only: an environment variable that happens to be called TRAIN is not meant for us."""
        return (init_settings,)


def run(command: Command) -> None:
    """Run a command: check its outputs, compute, write.

    Raises:
        RiftError: a problem that the user can solve, such as too little memory.
        Stopped: after SIGTERM or SIGINT.
    """
    command.check_outputs()
    artifacts.commit()
    try:
        command.run()
    except (MemoryError, RuntimeError) as error:
        # Recognised by its text: torch, which defines its class, may not have been imported.
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        raise RiftError(f"out of memory; lower {command.memory}") from error


def main() -> None:
    """Run the command line; exit with 2 for wrong flags, 1 for other problems that the user can solve."""
    arguments = sys.argv[1:] or ["--help"]
    try:
        run(_command_of(CliApp.run(Rift, cli_args=arguments)))
    except ValidationError as error:
        words = list(_command_words(error, arguments))
        message = config.describe(error, " ".join(["rift", *words]), "--", len(words))
        print(message.replace("--name:", "NAME:"), file=sys.stderr)
        raise SystemExit(2) from error
    except SettingsError as error:
        print(f"rift: {error}; see --help", file=sys.stderr)
        raise SystemExit(2) from error
    except RiftError as error:
        print(f"rift: error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except Stopped as stop:
        print(f"rift: {stop}; the same command goes on", file=sys.stderr)
        raise SystemExit(stop.exit_status) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _command_of(parsed: BaseModel) -> Command:
    """Return the command that was named, within its group if it has one."""
    while not isinstance(parsed, Command):
        parsed = cast("BaseModel", get_subcommand(parsed, cli_exit_on_error=False))
    return parsed


def _command_words(error: ValidationError, arguments: list[str]) -> Iterator[str]:
    """Yield the words of the command whose flags are wrong; they begin the path of every problem."""
    path = [str(part) for part in error.errors()[0]["loc"]]
    groups = ("evaluate", "merge")
    yield from path[: 2 if arguments[0] in groups else 1]
