"""Reads commands as the command line does."""

from typing import cast

from pydantic import BaseModel
from pydantic_settings import CliApp, get_subcommand

from rift.commands.command import Command
from rift.commands.main import Rift


def parse_command(*words: str) -> Command:
    """Return the command that words name; it is not run."""
    parsed: BaseModel = CliApp.run(Rift, cli_args=[*words])
    while not isinstance(parsed, Command):
        parsed = cast("BaseModel", get_subcommand(parsed, cli_exit_on_error=False))
    return parsed
