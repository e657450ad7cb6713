"""Parse commands like the command line."""

from typing import cast

from pydantic import BaseModel
from pydantic_settings import get_subcommand

from rift.commands.command import Command
from rift.commands.main import Rift
from rift.commands.parsing import parse

TRAIN_FILES = (
    *("--data", "d", "--architecture", "resnet8"),
    *("--output", "o.safetensors", "--history", "h.csv"),
)
"""Flags that every ``rift train`` needs; the files do not exist."""


def parse_command(*words: str) -> Command:
    """Parse words into a command, without running it."""
    parsed: BaseModel = parse(Rift, words)
    while not isinstance(parsed, Command):
        parsed = cast("BaseModel", get_subcommand(parsed, cli_exit_on_error=False))
    return parsed
