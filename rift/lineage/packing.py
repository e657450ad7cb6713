"""Packing an experiment into one file, to attach it to a paper.

Equal results give equal bytes: the file contains no date, user or machine, and its members are in a
fixed order.
"""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from rift import layout
from rift.artifacts import Provenance, write_bytes
from rift.config import Experiment
from rift.errors import RiftError
from rift.lineage.completeness import expected_files, other_settings, reported_files
from rift.lineage.tracing import Node, Tracer

MOST_SHOWN = 10
"""Largest number of problems in a message."""

REPORT = "report.html"
VERSION = ("rift", "commit", "torch", "device")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file can contain


def pack(folder: Path, experiment: Experiment, output: Path) -> int:
    """Write configuration, versions, tables, figures, report and lineage to one file.

    Args:
        folder: folder of the experiment.
        experiment: the experiment.
        output: file to write, ``.zip`` or ``.tar.gz``.

    Returns:
        The number of packed files.

    Raises:
        RiftError: results are missing, are damaged or do not belong together; or the file cannot be
            written or has another ending.
    """
    form = next((end for end in _FORMATS if output.name.endswith(end)), None)
    if form is None:
        raise RiftError(f"{output}: archives are written as {' or '.join(_FORMATS)}; rename it")
    nodes = checked(folder, experiment)
    members = {name: (folder / name).read_bytes() for name in reported_files(experiment)}
    if (folder / REPORT).is_file():
        members[REPORT] = (folder / REPORT).read_bytes()
    members[layout.CONFIGURATION] = (folder / layout.CONFIGURATION).read_bytes()
    made = {node.path: _facts(node) for node in nodes}
    members["lineage.json"] = _json({"artifacts": made, "sources": _sources(nodes)})
    members["versions.json"] = _json(_versions(nodes))
    members["README.md"] = _readme(experiment, members, nodes).encode()
    inside = {f"{experiment.experiment}/{name}": members[name] for name in sorted(members)}
    write_bytes(output, _FORMATS[form](inside))
    return len(inside)


def checked(folder: Path, experiment: Experiment) -> list[Node]:
    """Check that the results of an experiment are complete and belong together.

    Returns:
        The lineage of every artifact, table, figure and page.

    Raises:
        RiftError: something is missing, is damaged or does not match.
    """
    missing = [name for name in expected_files(experiment) if not (folder / name).is_file()]
    _refuse(folder, [f"{name}: is missing" for name in missing], "run the experiment to its end")
    tracer = Tracer(folder)
    nodes = tracer.everything()
    found = {
        f"{each.path}: {problem}"
        for node in nodes
        for each in node.walk()
        for problem in each.problems
    }
    _refuse(folder, sorted(found), "run the experiment again")
    _refuse(folder, other_settings(experiment, folder), "run the experiment again")
    return nodes


def _refuse(folder: Path, problems: list[str], advice: str) -> None:
    """Raise an error that lists the problems, if there are any."""
    if problems:
        shown = problems[:MOST_SHOWN]
        if len(problems) > MOST_SHOWN:
            shown.append(f"and {len(problems) - MOST_SHOWN} more")
        lines = "\n  ".join(shown)
        raise RiftError(f"{folder}: is not complete or does not match; {advice}\n  {lines}")


def _facts(node: Node) -> dict[str, Any]:
    """Return the provenance of an artifact, with the path and digest of every input."""
    recorded: Provenance = node.provenance
    inputs = [
        {"role": each.role, "path": each.path, "digest": recorded.get("inputs", {}).get(each.role)}
        for each in node.inputs
        if each.role != "source"
    ]
    kept = ("stage", "version", "settings", "seed", *VERSION)
    return {
        "digest": node.digest,
        **{key: recorded.get(key) for key in kept},
        "inputs": inputs,
    }


def _sources(nodes: Iterable[Node]) -> dict[str, str | None]:
    """Return the checksums of the files that data were read from."""
    return {
        each.path: each.digest for node in nodes for each in node.walk() if each.role == "source"
    }


def _versions(nodes: Iterable[Node]) -> dict[str, Any]:
    """Return the versions of rift and torch, the devices, and the versions of the stages."""
    sources = [node.provenance for node in nodes]
    made = {json.dumps({key: source.get(key) for key in VERSION}) for source in sources}
    stages = {str(source.get("stage")): source.get("version") for source in sources}
    return {"computed_by": [json.loads(each) for each in sorted(made)], "stages": stages}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _readme(experiment: Experiment, members: Mapping[str, bytes], nodes: list[Node]) -> str:
    """Return the text that tells a reader what the archive contains."""
    template = (files("rift.lineage") / "archive.md").read_text(encoding="utf-8")
    versions = _versions(nodes)["computed_by"]
    made = "\n".join(
        f"- rift {each['rift']}, commit {each['commit']}, torch {each['torch']},"
        f" device {each['device'] or 'none'}"
        for each in versions
    )
    sources = "\n".join(f"- `{name}`: {digest}" for name, digest in _sources(nodes).items())
    report = "yes" if REPORT in members else "no; `snakemake --report` makes it"
    return template.format(
        name=experiment.experiment,
        runs="\n".join(f"- `{run.name}`" for run in experiment.runs),
        made=made,
        sources=sources,
        report=report,
        artifacts=len(nodes),
    )


def _zip(members: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, everywhere
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _tar(members: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=content, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


_FORMATS = {".zip": _zip, ".tar.gz": _tar}
