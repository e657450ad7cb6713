"""What this machine and installation can do, and what to do about what is missing."""

import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from rift import __version__


class Finding(NamedTuple):
    """A line of the examination: ``missing`` stops the work, ``note`` is worth knowing."""

    status: Literal["ok", "note", "missing"]
    what: str
    state: str
    advice: str = ""


def examine(data_root: Path) -> bool:
    """Print what is found; return whether nothing needed is missing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    findings = [*_python(), *_packages(), *_torch(), *_data(data_root)]
    table = Table(
        "",
        "what",
        "state",
        "what to do",
        title=f"rift {__version__}",
        box=None,
        title_justify="left",
    )
    colours = {"ok": "green", "note": "yellow", "missing": "red"}
    for finding in findings:
        status = f"[{colours[finding.status]}]{finding.status}[/]"
        table.add_row(status, finding.what, finding.state, escape(finding.advice))
    Console().print(table)
    return all(finding.status != "missing" for finding in findings)


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "Python", f"{version}, {sys.prefix}")


def _packages() -> Iterator[Finding]:
    """Every package that rift declares, with the extra that brings it."""
    declared: dict[str, re.Match[str] | None] = {}
    for requirement in importlib.metadata.requires("rift") or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        # Listed by extra in alphabetical order: of dev and another, which dev contains, the other is named.
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
                    "note", name, "not installed", f"{advice}, if you want {_EXTRAS[extra[1]]}"
                )


_EXTRAS = {
    "workflow": "to run whole experiments",
    "robustbench": "the models and benchmarks of RobustBench",
    "tensorboard": "to log training for TensorBoard",
    "benchmarks": "to compare rift's speed with other packages'",
    "reference": "to compare the corruptions with another implementation in the tests",
    "dev": "to change rift",
}


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding(
            "missing",
            "device",
            f"torch does not import: {error}",
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
        yield Finding("ok", "precision", f"auto trains in {precision}, and measures in float32")
    else:
        advice = "fine for config/demo.yaml; the paper's grid wants a GPU and a CUDA build of torch"
        yield Finding("note", "device", f"no GPU that torch {torch.__version__} can use", advice)
        yield Finding("ok", "cpu", threads)
        yield Finding("ok", "precision", "auto trains and measures in float32")


def _data(root: Path) -> Iterator[Finding]:
    if not root.is_dir():
        advice = "make the folder, or set data.root or RIFT_DATA, before you use data sets other than the embedded digits"
        yield Finding("note", "data root", f"{root} does not exist", advice)
        return
    yield Finding("ok", "data root", f"{root.resolve()}")
    from rift.data.sources import DATASETS

    for name, dataset in DATASETS.items():
        if dataset.archive is not None:
            there = (root / dataset.archive.folder).is_dir()
            advice = (
                "" if there else f"rift prepare downloads it, or unpack {dataset.archive.url} there"
            )
            yield Finding(
                "ok" if there else "note",
                name,
                "lies there" if there else "does not lie there",
                advice,
            )
