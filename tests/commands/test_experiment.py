"""Experiments in folders of their own: ``rift init``, ``rift run``, and the wheel."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rift import config
from rift.commands.experiment import Init, Run
from rift.errors import RiftError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an experiment, which is the working directory."""
    path = tmp_path / "new/mine"
    Init(folder=path).run()
    monkeypatch.chdir(path)
    return path


def test_init_writes_an_experiment_that_a_dry_run_accepts(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    shipped = (repository / "config/demo.yaml").read_text()
    assert (folder / "config/config.yaml").read_text() == shipped
    assert config.read(Path("config/config.yaml")).experiment == "demo"
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]
    capfd.readouterr()
    Run(dry_run=True).run()
    said = "".join(capfd.readouterr())
    assert "rift train --data results/demo/data/digits/prepared.safetensors" in said
    assert not Path("results").exists()


def test_run_chooses_a_profile(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    with pytest.raises(RiftError, match=r"profiles/pbs does not exist; choose default, .*slurm"):
        Run(profile="pbs", dry_run=True).run()
    profile = Path("workflow/profiles/mine/profile.yaml")
    profile.parent.mkdir()
    profile.write_text("executor: of-my-own\n")
    with pytest.raises(
        RiftError, match=r"snakemake-executor-plugin-of-my-own, which is not installed"
    ):
        Run(profile="mine", dry_run=True).run()
    profile.write_text("cores: 3\nset-threads: {prepare: 2}\n")
    Run(profile="mine", dry_run=True).run()
    said = "".join(capfd.readouterr())
    assert re.search(r"rule prepare:[\s\S]*?threads: 2", said), said


def test_init_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Init(folder=tmp_path / "empty", example="regimes").run()
    written = yaml.safe_load((tmp_path / "empty/config/config.yaml").read_text())
    assert written["experiment"] == "regimes"
    for path in (tmp_path / "empty", tmp_path / "empty/config/config.yaml"):
        with pytest.raises(RiftError, match=r"exists and is not empty; choose another folder"):
            Init(folder=path).run()
    with pytest.raises(RiftError, match=r"'cifar' is not a shipped experiment; choose cifar10,"):
        Init(folder=tmp_path / "other", example="cifar").run()
    assert not (tmp_path / "other").exists()
    assert yaml.safe_load((tmp_path / "empty/config/config.yaml").read_text()) == written


def test_run_says_mistakes_at_once_and_passes_the_status_on(
    folder: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    with pytest.raises(RiftError, match=r"nothing\.yaml: cannot be read"):
        Run(config=Path("nothing.yaml")).run()
    file = Path("config/config.yaml")
    given = yaml.safe_load(file.read_text())
    Path("imported.yaml").write_text(yaml.safe_dump({**given, "base": [{"weights": "no.pth"}]}))
    with pytest.raises(RiftError, match=r"imported\.yaml: base: no\.pth does not exist; correct"):
        Run(config=Path("imported.yaml")).run()
    Path("workflow/Snakefile").write_text("rule all:\n    shell: 'exit 3'\n")
    with pytest.raises(SystemExit) as ended:
        Run().run()
    assert ended.value.code == 1


def test_a_signal_reaches_the_jobs_once(folder: Path, repository: Path) -> None:
    """The job counts the signals that it gets, and ends by itself."""
    job = (
        "import signal, sys, time; from pathlib import Path; got = []\n"
        "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
        "Path('begun').touch()\n"
        "end = time.time() + 30\n"
        "while not got and time.time() < end: time.sleep(0.05)\n"
        "time.sleep(0.5); Path('got').write_text(str(len(got))); sys.exit(130)\n"
    )
    Path("job.py").write_text(job)
    Path("workflow/Snakefile").write_text(f"rule all:\n    shell: '{sys.executable} job.py'\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "rift", "run"],
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    limit = time.monotonic() + 60
    while not Path("begun").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert Path("got").read_text() == "1"


def started(repository: Path, *words: str) -> subprocess.Popen[str]:
    """Start ``rift run`` in the working directory."""
    return subprocess.Popen(
        [sys.executable, "-m", "rift", "run", *words],
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_after_rift_run_alone_was_killed_the_same_command_goes_on(
    folder: Path, repository: Path
) -> None:
    """Its Snakemake and its jobs live on. The same command waits for them, and runs the rest."""
    job = (
        "import time; from pathlib import Path\n"
        "with open('begun', 'a') as file: file.write('x')\n"
        "while not Path('go').exists(): time.sleep(0.05)\n"
        "Path('results/demo').mkdir(parents=True, exist_ok=True); Path('made').touch()\n"
    )
    Path("job.py").write_text(job)
    template = Path("workflow/Snakefile").read_text()
    rules, onstart = re.split(r"(?=^# Snakemake runs no onstart)", template, flags=re.M)
    own = f"rule all:\n    output: 'made'\n    shell: '{sys.executable} job.py'\n"
    before = rules.partition("module installed:")[0]
    Path("workflow/Snakefile").write_text(before + own + onstart)
    killed = started(repository)
    wait_until(Path("begun").exists, killed)
    killed.kill()
    killed.wait()
    again = started(repository)
    assert again.stderr is not None
    said = ""
    while "waiting for its end" not in said:
        line = again.stderr.readline()
        assert line, said
        said += line
    assert Path("begun").read_text() == "x"
    assert not Path("made").exists()
    Path("go").touch()
    rest = again.communicate(timeout=120)[1]
    assert again.returncode == 0, said + rest
    assert Path("begun").read_text() == "x"
    assert Path("results/demo/report.html").exists()


def test_after_rift_run_and_snakemake_were_killed_the_same_command_goes_on(
    folder: Path, repository: Path
) -> None:
    killed = started(repository)
    record = Path(".snakemake/rift-demo.json")
    wait_until(lambda: record.exists() and record.read_text(), killed)
    found = subprocess.run(
        ["pgrep", "-P", str(killed.pid)], capture_output=True, text=True, check=True
    )
    killed.kill()
    for pid in found.stdout.split():
        os.killpg(int(pid), signal.SIGKILL)
    killed.wait()
    assert list(Path(".snakemake/locks").iterdir())
    made = Path("results/demo/data/digits/prepared.safetensors")
    assert not made.exists()
    again = started(repository)
    try:
        wait_until(made.exists, again)
    finally:
        again.terminate()
        again.communicate(timeout=120)


def test_an_installed_package_contains_all_that_an_experiment_needs(
    repository: Path, tmp_path: Path
) -> None:
    """The package is laid out as the settings of the build say, far from the checkout."""
    build = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    site = tmp_path / "site"
    skip = shutil.ignore_patterns("__pycache__")
    for package in wheel["packages"]:
        shutil.copytree(repository / package, site / package, ignore=skip)
    for source, target in wheel["force-include"].items():
        shutil.copytree(repository / source, site / target, ignore=skip)
    program = (
        "import sys; from pathlib import Path; from rift import layout\n"
        "from rift.commands.experiment import Init, Run\n"
        "Init(folder=Path('x')).run()\n"
        "assert layout.workflow_folder().is_relative_to(sys.argv[1])\n"
        "import os; os.chdir('x'); Run(dry_run=True).run()\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(site)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = answer.stdout + answer.stderr
    assert answer.returncode == 0, said
    assert re.search(r"^train +3$", said, re.M), said
