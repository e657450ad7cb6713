"""Submit jobs of Snakemake to Kubernetes, ask for their state, and cancel them, by kubectl."""

import argparse
import json
import os
import string
import subprocess
import sys
import uuid
from pathlib import Path

TEMPLATE = Path(__file__).with_name("job.yaml")
STATES = {"Complete": "success", "SuccessCriteriaMet": "success", "Failed": "failed"}


def kubectl(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def render(arguments: argparse.Namespace) -> str:
    """Return the manifest of a job."""
    rule = arguments.rule.replace("_", "-")
    # What is written as JSON is YAML, too, whatever a path contains.
    values = {
        "name": f"rift-{rule[:40]}-{uuid.uuid4().hex[:8]}",
        "rule": json.dumps(rule),
        "folder": json.dumps(str(Path.cwd())),
        "path": json.dumps(os.environ["PATH"]),
        "script": json.dumps(str(arguments.script.absolute())),
        "cpus": arguments.cpus,
        "memory": f"{arguments.memory_mb}M",
        "gpus": arguments.gpus,
        "seconds": 60 * arguments.minutes,
    }
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


def submit(arguments: argparse.Namespace) -> None:
    """Print the name of the new job."""
    answer = kubectl("create", "-f", "-", "-o", "name", text=render(arguments))
    if answer.returncode != 0:
        sys.exit(f"kubectl create: {answer.stderr.strip()}")
    print(answer.stdout.strip())


def status(arguments: argparse.Namespace) -> None:
    """Print success, failed or running."""
    form = '-o=jsonpath={range .status.conditions[?(@.status=="True")]}{.type}{" "}{end}'
    answer = kubectl("get", arguments.job, form)
    if answer.returncode != 0:
        # A job that is gone has failed. Kubernetes may be unreachable for a while.
        print(answer.stderr.strip(), file=sys.stderr)
        print("failed" if "NotFound" in answer.stderr else "running")
        return
    ends = [STATES[word] for word in answer.stdout.split() if word in STATES]
    print(ends[-1] if ends else "running")


def cancel(arguments: argparse.Namespace) -> None:
    answer = kubectl("delete", "--wait=false", *arguments.jobs)
    if answer.returncode != 0:
        sys.exit(f"kubectl delete: {answer.stderr.strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("submit", help="submit a script of Snakemake, and print its job")
    for name in ("cpus", "memory-mb", "gpus", "minutes"):
        command.add_argument(f"--{name}", type=int, required=True)
    command.add_argument("--rule", required=True)
    command.add_argument("script", type=Path)
    command.set_defaults(call=submit)
    command = commands.add_parser("status", help="print success, failed or running")
    command.add_argument("job")
    command.set_defaults(call=status)
    command = commands.add_parser("cancel", help="delete jobs; they get SIGTERM, and time to save")
    command.add_argument("jobs", nargs="+")
    command.set_defaults(call=cancel)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
