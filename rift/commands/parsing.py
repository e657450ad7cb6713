"""Parsing of the command line, with help pages of at most 80 columns."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pydantic_settings import BaseSettings, CliApp, CliSettingsSource

import rift

WIDTH = 80
"""Largest width of a help page."""

LONGEST = 30
"""Longest description of a flag's values beside its name."""

BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0", "t", "f", "y", "n")
"""Words that are true or false, as pydantic reads them."""

Settings = TypeVar("Settings", bound=BaseSettings)


class _Narrow(argparse.HelpFormatter):
    """Formatter that moves long lists of choices from the usage into the text of a flag."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(WIDTH, shutil.get_terminal_size().columns) - 2)

    def _metavar_formatter(
        self, action: argparse.Action, default_metavar: str
    ) -> Callable[[int], tuple[str, ...]]:
        shown = action.metavar if isinstance(action.metavar, str) else default_metavar
        if not isinstance(shown, str) or self._fits(action, shown):
            return super()._metavar_formatter(action, default_metavar)
        short = "NAME,..." if "tuple" in shown or "list" in shown else "NAME"
        return lambda size: (short,) * size

    def _fits(self, action: argparse.Action, shown: str) -> bool:
        """Return whether the values of a flag fit beside it, in the usage too."""
        flag = max(action.option_strings, key=len, default="")
        line = f"usage: {self._prog} [{flag} {shown}]"
        return len(shown) <= LONGEST and len(line) <= self._width

    def _split_lines(self, text: str, width: int) -> list[str]:
        # A name such as vit-small stays in one line, so that it can be found and copied.
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action)
        if isinstance(action.metavar, str) and not self._fits(action, action.metavar):
            types = {"int", "str", "tuple", "list", "float", "Path"}
            names = [name for name in re.findall(r"[\w.-]+", action.metavar) if name not in types]
            names = [name for name in dict.fromkeys(names) if name.strip(".")]
            missing = [name for name in names if name not in text]
            text += f" Names: {', '.join(names)}." if missing else ""
        return text


def parse(settings: type[Settings], arguments: Sequence[str]) -> Settings:
    """Return the settings that command-line arguments describe.

    A flag may be spelled with hyphens, and one that is true or false may come without a value:
    ``--dry-run`` is ``--dry_run true``.

    Args:
        settings: class of the settings.
        arguments: words of the command line.

    Raises:
        SystemExit: the arguments ask for help or the version, or name no command.
        ValidationError: a value is wrong.
        SettingsError: a flag is unknown.
    """
    source: CliSettingsSource[argparse.ArgumentParser] = CliSettingsSource(
        settings, formatter_class=_Narrow
    )
    source.root_parser.add_argument(
        "--version",
        action="version",
        version=f"rift {rift.__version__}",
        help="show the version of rift and exit",
    )
    words = [*_spelled_out(arguments, _actions(source.root_parser, arguments))]
    return CliApp.run(settings, cli_args=words, cli_settings_source=source)


def _actions(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[argparse.Action]:
    """Return the arguments of the command that the first words name."""
    actions = parser._actions
    for action in actions:
        if isinstance(action, argparse._SubParsersAction) and words and words[0] in action.choices:
            return _actions(action.choices[words[0]], words[1:])
    return actions


def _spelled_out(words: Sequence[str], actions: Sequence[argparse.Action]) -> Iterator[str]:
    """Yield the words of a command line, with flags as the parser expects them."""
    flags = {flag: action.metavar for action in actions for flag in action.option_strings}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        underscored = f"--{flag[2:].replace('-', '_')}"
        if flag.startswith("--") and flag not in flags and underscored in flags:
            flag = underscored
        yield f"{flag}{equals}{value}"
        if flags.get(flag) == "bool" and not equals and following.lower() not in BOOLEANS:
            yield "true"
