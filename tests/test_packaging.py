"""The package as others get it: its version, its wheel and its source distribution."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import rift
from rift import artifacts
from tests.workflow.running import TINY

# Every stage once. Most of the time of a job is the import of torch.
SMALL = {
    **TINY,
    "experiment": "demo",
    "grid": {**TINY["grid"], "scopes": ["rift"], "autoattack": []},
    "evaluate": {**TINY["evaluate"], "ood": {"corruptions": ["contrast"], "images": 50}},
    "report": {"tables": ["main"], "figures": ["interpolation"]},
}


def run(
    *words: object, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command without the package of this checkout, and return what it said."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**clean, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer


def build(source: Path, output: Path, *options: str) -> Path:
    """Build wheel, source distribution or both, by the tools of this environment."""
    run(sys.executable, "-m", "build", "--no-isolation", "-o", output, *options, cwd=source)
    return output


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def checkout(folder: Path, repository: Path) -> Path:
    """Write the smallest checkout that has a version: the build's settings and an empty package."""
    (folder / "rift").mkdir(parents=True)
    (folder / "rift/__init__.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(repository / name, folder / name)
    return folder


def git(folder: Path, *words: str) -> None:
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "tag.gpgsign=false")
    run("git", *author, "-c", "commit.gpgsign=false", *words, cwd=folder)


def version_of(folder: Path) -> Version:
    """Return the version that a build of a checkout would have."""
    program = (
        "from hatchling.metadata.core import ProjectMetadata\n"
        "from hatchling.plugin.manager import PluginManager\n"
        "print(ProjectMetadata('.', PluginManager()).version)"
    )
    return Version(run(sys.executable, "-W", "ignore", "-c", program, cwd=folder).stdout.strip())


def test_the_version_is_that_of_the_tag(repository: Path, tmp_path: Path) -> None:
    folder = checkout(tmp_path / "source", repository)
    without_git = version_of(folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    without_tag = version_of(folder)
    assert without_git.is_devrelease
    assert without_tag.is_devrelease
    assert without_git.release == without_tag.release
    git(folder, "tag", "v9.8.0")
    assert version_of(folder) == Version("9.8.0")
    git(folder, "commit", "-qm", "two", "--allow-empty")
    later = version_of(folder)
    assert later.is_devrelease
    assert later.release == (9, 8, 1)


def test_command_package_and_provenance_say_the_same_version(tmp_path: Path) -> None:
    said = run(sys.executable, "-m", "rift", "--version", cwd=tmp_path).stdout
    assert said == f"rift {rift.__version__}\n"
    assert artifacts.provenance("test", {})["rift"] == rift.__version__


def test_the_citation_and_the_change_log_name_the_same_release(repository: Path) -> None:
    headings = re.findall(r"^## (\S+)", (repository / "CHANGELOG.md").read_text(), re.M)
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert headings[0] == "Unreleased"
    assert citation["version"] == headings[1]


def test_the_workflow_catalog_takes_the_repository(repository: Path) -> None:
    """The criteria of the catalog's page on standardized usage."""
    readme = (repository / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    for path in ("workflow/Snakefile", "config/README.md", "config/config.yaml"):
        assert (repository / path).is_file()
    said = yaml.safe_load((repository / ".snakemake-workflow-catalog.yml").read_text())
    usage = said["usage"]
    assert set(usage) <= {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda"}
    assert usage["report"] is True


@pytest.fixture(scope="module")
def distributions(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the source distribution and the wheel that was built from it."""
    return build(repository, tmp_path_factory.mktemp("dist"))


@pytest.mark.whole
def test_the_source_distribution_builds_the_wheel_of_the_checkout(
    distributions: Path, repository: Path, tmp_path: Path
) -> None:
    (from_source,) = distributions.glob("*.whl")
    (direct,) = build(repository, tmp_path, "--wheel").glob("*.whl")
    assert from_source.name == direct.name
    assert contents(from_source) == contents(direct)
    (source,) = distributions.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for path in ("tests/test_packaging.py", "examples/README.md", "CITATION.cff", "Makefile"):
        assert path in names, path


@pytest.mark.whole
def test_the_wheel_alone_makes_and_runs_an_experiment(distributions: Path, tmp_path: Path) -> None:
    """The wheel lies in an environment of its own, which borrows the other packages from here."""
    (wheel,) = distributions.glob("*.whl")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin/python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
        *("--no-deps", "--no-index", "--disable-pip-version-check", wheel),
        cwd=tmp_path,
    )
    site = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    ).stdout.strip()
    # The files in this folder are found, but its own .pth files, such as that of an editable rift,
    # are not read. The folder of the wheel comes first.
    Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib"))

    command = environment / "bin/rift"
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(python, "-c", "import rift; print(rift.__file__, rift.__version__)", cwd=empty)
    file, version = where.stdout.split()
    assert Path(file).is_relative_to(environment)
    assert version in wheel.name
    assert run(command, "--version", cwd=empty).stdout == f"rift {version}\n"

    run(command, "init", "x", cwd=empty)
    folder = empty / "x"
    (folder / "config/config.yaml").write_text(yaml.safe_dump(SMALL))
    run(command, "run", cwd=folder, environment={"OMP_NUM_THREADS": "1"})
    assert "RiFT" in (folder / "results/demo/tables/main.md").read_text()
    assert (folder / "results/demo/report.html").stat().st_size > 100_000
    base = folder / "results/demo/runs/digits/resnet8/pgd/seed0/base.safetensors"
    source = artifacts.read_facts(base)["provenance"]
    assert (source["rift"], source["commit"]) == (version, None)
