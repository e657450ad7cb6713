"""A kubectl for tests, whose jobs run on this machine: python kubectl.py FOLDER WORDS.

It knows what the profile for Kubernetes calls: create, get and delete. The folder contains the
manifest of each job, the output and the process number of its first program, and its exit status.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


def manifest(folder: Path, name: str) -> Any:
    return yaml.safe_load((folder / f"{name}.yaml").read_text())


def create(folder: Path) -> None:
    text = sys.stdin.read()
    name = yaml.safe_load(text)["metadata"]["name"]
    (folder / f"{name}.yaml").write_text(text)
    if (folder / "no-nodes").exists():
        print(f"job.batch/{name}")
        return
    command = [sys.executable, __file__, str(folder), "start", name]
    null = subprocess.DEVNULL
    subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)
    print(f"job.batch/{name}")


def start(folder: Path, name: str) -> None:
    """Run the container of a job to its end."""
    (container,) = manifest(folder, name)["spec"]["template"]["spec"]["containers"]
    # Apart from the manifest, only what an image could contain.
    given = {key: os.environ[key] for key in ("HOME", "PYTHONPATH") if key in os.environ}
    given |= {each["name"]: each["value"] for each in container["env"]}
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            container["command"],
            cwd=container["workingDir"],
            env=given,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / f"{name}.pid").write_text(str(process.pid))
    (folder / f"{name}.end").write_text(str(process.wait()))


def get(folder: Path, name: str) -> None:
    if not (folder / f"{name}.yaml").exists():
        sys.exit(f'Error from server (NotFound): jobs.batch "{name}" not found')
    end = folder / f"{name}.end"
    if end.exists() and (status := end.read_text()):
        print("SuccessCriteriaMet Complete" if status == "0" else "FailureTarget Failed")


def delete(folder: Path, name: str) -> None:
    os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGTERM)


def main() -> None:
    place, action, *words = sys.argv[1:]
    folder, names = Path(place), [word.removeprefix("job.batch/") for word in words]
    if action == "create":
        create(folder)
    elif action == "delete":
        for name in names[1:]:
            delete(folder, name)
    else:
        {"start": start, "get": get}[action](folder, names[0])


if __name__ == "__main__":
    main()
