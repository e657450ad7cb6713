"""Tools: ``rift doctor`` and ``rift schema``."""

import json
import sys

from rift import config
from rift.commands.command import Command


class Doctor(Command):
    """Report on this machine and this installation, and advise on missing parts."""

    stage = "doctor"

    data: config.Data = config.Data()

    def run(self) -> None:
        from rift.commands.doctor import examine

        if not examine(self.data.folder):
            raise SystemExit(1)


class Schema(Command):
    """Print the JSON schema of an experiment file, for editors."""

    stage = "schema"

    def run(self) -> None:
        sys.stdout.write(json.dumps(config.schema(), indent=2) + "\n")
