"""A logger plugin of Snakemake that reports what happens, one JSON object per line of a file.

``python -m rift.running.plugin`` is Snakemake with this plugin. Snakemake itself finds only plugins
that are packages of their own, and would load them in every run of an environment. The usual output
stays as it is.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

NAME = "rift-events"
"""Name of the plugin, for ``--logger``; its file is ``--logger-rift-events-file``."""

NOTHING_TO_DO = "Nothing to be done"


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Settings of the plugin.

    Attributes:
        file: file that the events are appended to.
    """

    file: str = field(default="", metadata={"help": "File for the events.", "type": str})


class LogHandler(LogHandlerBase):
    """A handler that writes the events that a view of the run needs."""

    writes_to_stream = False
    writes_to_file = False  # else Snakemake would name the file as a log
    has_filter = True  # options such as --quiet concern the usual output only
    has_formatter = True
    needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the event of a record, if it is one that a view shows."""
        assert isinstance(self.settings, LogHandlerSettings)
        try:
            # A dry run names jobs that never run.
            event = None if self.common_settings.dryrun else event_of(record)
            if event is not None:
                with Path(self.settings.file).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(event, default=str) + "\n")
        except Exception:
            self.handleError(record)


def event_of(record: logging.LogRecord) -> dict[str, Any] | None:
    """Return the event of a record of Snakemake's logger, or None if no view shows it."""
    facts: dict[str, Any] = record.__dict__
    text = record.getMessage()
    match facts.get("event"):
        case LogEvent.RUN_INFO:
            return {"event": "planned", "total": facts["stats"]["total"]}
        case LogEvent.PROGRESS:
            return {"event": "progress", "done": facts["done"], "total": facts["total"]}
        case LogEvent.JOB_INFO:
            return {
                "event": "started",
                "job": facts["jobid"],
                "time": record.created,
                "rule": facts["rule_name"],
                "wildcards": dict(facts["wildcards"] or {}),
                "logs": _absolute(facts["log"]),
                "command": facts["shellcmd"],
            }
        case LogEvent.JOB_FINISHED:
            return {"event": "finished", "job": facts["job_id"], "time": record.created}
        case LogEvent.JOB_ERROR:
            return {
                "event": "failed",
                "job": facts["jobid"],
                "time": record.created,
                "logs": _absolute(facts["log"]),
                "message": facts["rule_msg"],
            }
        case LogEvent.ERROR:
            return {"event": "error", "text": text, "time": record.created}
        case None if record.levelno == logging.WARNING:
            return {"event": "warning", "text": text}
        case None if text.startswith(NOTHING_TO_DO):
            return {"event": "nothing to do"}
    return None


def _absolute(paths: Iterable[str]) -> list[str]:
    # Only this process knows the folder that an option --directory names.
    return [str(Path(path).absolute()) for path in paths or ()]


if __name__ == "__main__":
    import sys

    from snakemake.cli import main
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    from rift.running import plugin

    LoggerPluginRegistry().register_plugin(f"snakemake_logger_plugin_{NAME}", plugin)
    sys.argv[0] = "snakemake"  # its messages and its log name the program
    main()
