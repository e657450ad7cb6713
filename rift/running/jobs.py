"""The jobs of a run, as the events of the plugin report them."""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rift.running.logs import LogProgress, last_lines

TAIL = 10
"""Lines of a log that are shown after a failure."""

# An error that the log of the job explains better, and the one that ends every run with a failure.
_EXIT_STATUS = re.compile(r"returned non-zero exit status (\d+)|died with <Signals\.(\w+)")
_FINAL = "At least one job did not complete successfully"
# The job ended well, but outputs are missing.
_NUMBER = re.compile(r"^Job (\d+)\b.*", re.M | re.S)


@dataclass
class Job:
    """A job of the workflow.

    Attributes:
        rule: name of its rule.
        about: values of its wildcards.
        logs: its log files.
        command: its shell command; empty if it has none.
        started: time at which it began, in seconds since the epoch.
        seconds: how long it ran, once it ended.
    """

    rule: str
    about: str
    logs: list[Path]
    command: str
    started: float
    seconds: float = 0.0
    progress: LogProgress | None = None

    @property
    def name(self) -> str:
        """Return rule and wildcards."""
        return f"{self.rule} {self.about}".strip()


@dataclass
class Failure:
    """A job that failed.

    Attributes:
        job: the job.
        reason: why it failed, such as its exit status.
        log: log whose lines these are; None if the job wrote no log.
        lines: last lines of the log.
    """

    job: Job
    reason: str
    log: Path | None
    lines: list[str]


@dataclass
class Jobs:
    """The state of a run.

    Attributes:
        total: number of jobs in this run; None until it is known.
        done: number of finished jobs.
        running: the running jobs, by number.
        failed: the failed jobs, by number.
        nothing_to_do: whether all results were there.
    """

    total: int | None = None
    done: int = 0
    nothing_to_do: bool = False
    running: dict[int, Job] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    _errors: list[str] = field(default_factory=list)

    def take(self, line: str) -> Job | Failure | str | None:
        """Take an event, and return its news: a finished or a failed job, or a warning.

        Args:
            line: JSON object of the plugin.
        """
        event: dict[str, Any] = json.loads(line)
        match event["event"]:
            case "planned":
                self.total = event["total"]
            case "progress":
                self.done, self.total = event["done"], event["total"]
            case "nothing to do":
                self.nothing_to_do = True
            case "started":
                self._start(event)
            case "finished":
                self.done += 1
                return self._end(event)
            case "failed":
                return self._fail(event, self._reason(event))
            case "error":
                return self._error(event)
            case "warning":
                return str(event["text"])
        return None

    @property
    def errors(self) -> list[str]:
        """Return the errors that belong to no job."""
        return [text for text in self._errors if not (self.failed and _FINAL in text)]

    def _start(self, event: dict[str, Any]) -> None:
        logs = [Path(path) for path in event["logs"]]
        progress = LogProgress(logs[0], event["time"]) if logs else None
        about = _about({name: str(value) for name, value in event["wildcards"].items()})
        command = event["command"] or ""
        job = Job(event["rule"], about, logs, command, event["time"], progress=progress)
        self.running[event["job"]] = job
        self.failed.pop(event["job"], None)  # it is tried again

    def _end(self, event: dict[str, Any]) -> Job | None:
        job = self.running.pop(event["job"], None)
        if job is not None:
            job.seconds = event["time"] - job.started
        return job

    def _reason(self, event: dict[str, Any]) -> str:
        """Return why a job failed, from the error that Snakemake reports before the failure."""
        job = self.running.get(event["job"])
        for text in self._errors:
            if job is None or not job.command or job.command in text:
                self._errors.remove(text)
                found = _EXIT_STATUS.search(text)
                if found is None:
                    return text
                return f"exit status {found[1]}" if found[1] else f"killed by {found[2]}"
        return str(event["message"] or "")

    def _error(self, event: dict[str, Any]) -> Failure | None:
        match = _NUMBER.search(event["text"])
        if match is not None and int(match[1]) in self.running:
            return self._fail({"job": int(match[1]), "logs": [], **event}, match[0])
        self._errors.append(event["text"])
        return None

    def _fail(self, event: dict[str, Any], reason: str) -> Failure | None:
        job = self._end(event)
        if job is None:
            return None
        logs = [log for log in (*job.logs, *map(Path, event["logs"])) if log.exists()]
        tails = [(log, last_lines(log, TAIL)) for log in logs]
        log, lines = next((tail for tail in tails if tail[1]), tails[0] if tails else (None, []))
        self.failed[event["job"]] = failure = Failure(job, reason.strip(), log, lines)
        return failure

    def read_logs(self) -> None:
        """Read the progress of the running jobs from their logs."""
        for job in self.running.values():
            if job.progress is not None:
                job.progress.read()

    def seconds(self, job: Job) -> float:
        """Return how long a running job has been running."""
        return max(0.0, time.time() - job.started)


def _about(wildcards: dict[str, str]) -> str:
    """Return the values of wildcards, and which shard of a result a job makes."""
    shard, shards = wildcards.pop("shard", ""), wildcards.pop("shards", "")
    run = wildcards.pop("run", "")
    values = [run.removeprefix("runs/").removeprefix("transfers/"), *wildcards.values()]
    if shard and shards != "1":
        values.append(f"{shard}/{shards}" if shards else shard)
    return " ".join(value for value in values if value)
