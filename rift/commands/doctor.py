"""Report on this machine and this installation, with advice on missing parts."""

import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from rift import __version__


class Finding(NamedTuple):
    """A line of the report.

    Attributes:
        status: ``missing`` if rift does not work without the part, ``note`` if it works partly.
        part: package, device or folder that was checked.
        state: result of the check.
        advice: recommended action; may be empty.
    """

    status: Literal["ok", "note", "missing"]
    part: str
    state: str
    advice: str = ""


def examine(data_root: Path) -> bool:
    """Print the report, and return whether every required part exists.

    Args:
        data_root: folder of the data sets.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    findings = [*_python(), *_packages(), *_torch(), *_data(data_root)]
    table = Table(
        "",
        "part",
        "state",
        "what to do",
        title=f"rift {__version__}",
        box=None,
        title_justify="left",
    )
    colours = {"ok": "green", "note": "yellow", "missing": "red"}
    for finding in findings:
        status = f"[{colours[finding.status]}]{finding.status}[/]"
        table.add_row(status, finding.part, finding.state, escape(finding.advice))
    Console().print(table)
    return all(finding.status != "missing" for finding in findings)


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "Python", f"{version}, {sys.prefix}")


def _packages() -> Iterator[Finding]:
    """Yield a finding per declared dependency, with the extra that installs it."""
    declared: dict[str, re.Match[str] | None] = {}
    for requirement in importlib.metadata.requires("rift") or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        # dev repeats packages of other extras. Those come later, so the advice names them.
        declared[name] = re.search(r"extra == ['\"](\w+)['\"]", requirement)
    for name, extra in declared.items():
        try:
            yield Finding("ok", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            if extra is None:
                yield Finding(
                    "missing", name, "not installed", "pip install -c constraints.txt -e ."
                )
            else:
                advice = f"pip install -c constraints.txt -e '.[{extra[1]}]'"
                yield Finding(
                    "note", name, "not installed", f"{advice}, if you need {_EXTRAS[extra[1]]}"
                )


_EXTRAS = {
    "workflow": "whole experiments",
    "slurm": "experiments on a cluster with Slurm",
    "kubernetes": "experiments on Kubernetes",
    "robustbench": "the models and benchmarks of RobustBench",
    "tensorboard": "training logs for TensorBoard",
    "benchmarks": "the speed comparisons with other packages",
    "reference": "the tests that compare corruptions with another implementation",
    "docs": "the documentation site",
    "dev": "the tools for the development of rift",
}


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding(
            "missing",
            "device",
            f"torch cannot be imported: {error}",
            "pip install -c constraints.txt torch",
        )
        return
    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory / 2**30
            yield Finding(
                "ok", f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {memory:.0f} GiB"
            )
        precision = (
            "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
        )
        yield Finding("ok", "precision", f"auto trains in {precision} and measures in float32")
    else:
        advice = (
            "config/demo.yaml runs on a CPU; the paper's grid needs a GPU and a CUDA build of torch"
        )
        yield Finding("note", "device", f"torch {torch.__version__} cannot use a GPU", advice)
        yield Finding("ok", "cpu", threads)
        yield Finding("ok", "precision", "auto trains and measures in float32")


def _data(root: Path) -> Iterator[Finding]:
    if not root.is_dir():
        advice = (
            "create the folder, or set data.root or RIFT_DATA; the embedded digits work without it"
        )
        yield Finding("note", "data root", f"{root} does not exist", advice)
        return
    yield Finding("ok", "data root", f"{root.resolve()}")
    from rift.data.sources import DATASETS

    for name, dataset in DATASETS.items():
        if dataset.archive is not None:
            if (root / dataset.archive.folder).is_dir():
                yield Finding("ok", name, "is in the data root")
            else:
                advice = (
                    f"rift prepare downloads it, or unpack {dataset.archive.url} in the data root"
                )
                yield Finding("note", name, "is not in the data root", advice)
