"""Tracing an artifact back to the checksums of its data, with a check of every digest."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rift import layout
from rift.artifacts import (
    FORMATS,
    OUTCOMES,
    Provenance,
    checked_provenance,
    content_digest,
    read_facts,
    read_json,
    reading,
    stage_version,
)
from rift.config import data_root
from rift.config.outside import code_file, is_outside
from rift.data.raw import RAW, RawDigests, raw_files
from rift.errors import RiftError
from rift.lineage.configuration import recorded_experiment
from rift.lineage.inputs import Index, artifact_files, experiment_folder, input_files

FILES = "files"
"""Key of the digests of the files that a lineage describes."""


@dataclass
class Node:
    """An artifact, or a source of data, and all that it was computed from.

    Attributes:
        path: path below the folder of the experiment; name of the source.
        role: name of this input in the artifact above; empty at the root.
        digest: digest of the content that the file has now; None if it is missing or damaged.
        provenance: its provenance; empty for a source.
        problems: what is missing, is damaged or does not match; empty if all is well.
        notes: facts that are no problem.
        inputs: what it was computed from.
        repeated: whether its inputs are shown elsewhere in the tree, and omitted here.
    """

    path: str
    role: str = ""
    digest: str | None = None
    provenance: Provenance = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    inputs: list["Node"] = field(default_factory=list)
    repeated: bool = False

    def walk(self) -> Iterator["Node"]:
        """Yield this node and all nodes below it."""
        yield self
        for each in self.inputs:
            yield from each.walk()

    def facts(self) -> dict[str, Any]:
        """Return the node and all below it as JSON values."""
        kept = ("stage", "version", "settings", "seed", "rift", "commit", "torch", "device")
        facts = {key: self.provenance[key] for key in kept if key in self.provenance}
        return {
            "path": self.path,
            "role": self.role,
            "digest": self.digest,
            **facts,
            "problems": self.problems,
            "notes": self.notes,
            **({"repeated": True} if self.repeated else {}),
            "inputs": [each.facts() for each in self.inputs],
        }


class Tracer:
    """Follows artifacts of one experiment; every file is read and checked once.

    Attributes:
        folder: folder of the experiment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        experiment = recorded_experiment(folder)
        self._data = data_root(None) if experiment is None else experiment.data.folder
        self._index = Index(folder)
        self._nodes: dict[Path, Node] = {}

    def __call__(self, path: Path) -> Node:
        """Return the lineage of a file, which need not exist."""
        place = path.absolute()
        if place not in self._nodes:
            self._traced(place, "")
        return self._nodes[place]

    def everything(self) -> list[Node]:
        """Return the lineage of every artifact, table and figure of the experiment."""
        lineages = sorted(self.folder.glob(f"*{layout.LINEAGE}"))
        for top in ("tables", "figures"):
            lineages += sorted((self.folder / top).rglob(f"*{layout.LINEAGE}"))
        return [self(path) for path in (*artifact_files(self.folder), *lineages)]

    def _traced(self, path: Path, role: str) -> Node:
        if path in self._nodes:
            known = self._nodes[path]
            return Node(
                known.path, role, known.digest, known.provenance, repeated=bool(known.inputs)
            )
        node = self._nodes[path] = Node(self._name(path), role)
        if not path.is_file():
            node.problems.append("is missing")
            return node
        try:
            self._follow(node, path)
        except RiftError as error:
            node.problems.append(str(error).removeprefix(f"{path}: "))
        return node

    def _name(self, path: Path) -> str:
        inside = path.is_relative_to(self.folder)
        return path.relative_to(self.folder).as_posix() if inside else str(path)

    def _follow(self, node: Node, path: Path) -> None:
        """Check a file and add its inputs.

        Raises:
            RiftError: it is damaged.
        """
        record = layout.lineage(path)
        if path.name.endswith(layout.LINEAGE) or record.is_file():
            self._follow_report(node, path, record)
            return
        if path.suffix not in FORMATS or self._is_report(path):
            node.digest = file_digest(path)
            node.problems.append(
                "has no lineage: files of stages have one, and tables and figures that were made"
                " with --lineage"
            )
            return
        node.provenance = checked_provenance(path)
        node.digest = content_digest(path.with_suffix(".json") if _is_array(path) else path)
        if path.parent.name == "corrupted" and path.suffix == ".json":
            # Only the digests of the images are in this file.
            checked_provenance(path.with_suffix(".npy"))
        self._check_version(node)
        self._check_outcomes(node, path)
        inputs = input_files(self.folder, path, node.provenance)
        for role, expected in inputs.items():
            recorded = str(node.provenance["inputs"][role])
            node.inputs.append(self._input(node, role, recorded, expected))
        if node.provenance.get("stage") == "prepare":
            node.inputs.extend(self._sources(node, path))

    def _is_report(self, path: Path) -> bool:
        """Return whether a file is a table, a figure or a page: without place for provenance."""
        top = self._name(path).split("/")[0]
        return top in ("tables", "figures", layout.OVERVIEW)

    def _follow_report(self, node: Node, path: Path, record: Path) -> None:
        """Check a table or figure against its lineage, and add the artifacts that it shows."""
        own = path if path.name.endswith(layout.LINEAGE) else record
        told = read_json(own, (FILES,))
        node.provenance = dict(told["provenance"])
        node.digest = file_digest(path)
        for name, digest in dict(told[FILES]).items():
            file = own.with_name(name)
            if path not in (own, file):
                continue
            if not file.is_file():
                node.problems.append(f"{name} is missing")
            elif file_digest(file) != digest:
                node.problems.append(f"{name} was changed since it was made")
        self._check_version(node)
        for name, recorded in dict(node.provenance.get("inputs") or {}).items():
            node.inputs.append(self._input(node, name, recorded, [self.folder / name]))

    def _input(self, above: Node, role: str, recorded: str, expected: list[Path]) -> Node:
        """Return the lineage of an input, and report it to ``above`` if it does not match."""
        if role == "code":
            return self._code(above, role, recorded)
        same = [path for path in expected if _digest_of(path) == recorded]
        found = same[0] if same else None
        if found is None and not any(path.exists() for path in expected):
            found = self._index(recorded)
        if found is None and expected and expected[0].exists():
            found = expected[0]
            digest = _digest_of(found)
            has = f"content {digest[:12]}" if digest else "damaged content"
            above.problems.append(
                f"{role}: was computed from content {recorded[:12]}, but {self._name(found)} has"
                f" {has}"
            )
        if found is not None:
            return self._traced(found, role)
        outside = not expected or not expected[0].is_relative_to(self.folder)
        name = self._name(expected[0]) if expected else "a file outside of the experiment"
        node = Node(name, role, recorded)
        if outside:
            node.notes.append("is not here, so that its content is not checked")
        else:
            node.problems.append("is missing")
        return node

    def _code(self, above: Node, role: str, recorded: str) -> Node:
        """Return the node of the file of an architecture from outside."""
        settings = above.provenance.get("settings") or {}
        architecture = str(settings.get("architecture", ""))
        node = Node(architecture, role, recorded)
        try:
            file = code_file(architecture) if is_outside(architecture) else None
        except RiftError:
            file = None
        if file is None:
            node.notes.append("its file is not in this folder, so that it is not checked")
        elif file_digest(file) != recorded:
            node.problems.append(f"{file} was changed since")
        return node

    def _check_version(self, node: Node) -> None:
        stage, version = node.provenance.get("stage"), node.provenance.get("version")
        if isinstance(stage, str) and version not in (None, stage_version(stage)):
            node.problems.append(
                f"was computed by version {version} of {stage}; this rift has version"
                f" {stage_version(stage)}, which gives other results"
            )

    def _check_outcomes(self, node: Node, path: Path) -> None:
        """Check that the summary of an evaluation is that of the outcomes beside it."""
        told, outcomes = node.provenance.get(OUTCOMES), path.with_suffix(".npz")
        if told is not None and outcomes.is_file() and _digest_of(outcomes) != told:
            node.problems.append(f"is not the summary of {outcomes.name} beside it")

    def _sources(self, node: Node, path: Path) -> Iterator[Node]:
        """Yield the files that a data set was read from, each with its checksum."""
        facts = read_facts(path).get("facts", {}) if path.suffix == ".safetensors" else {}
        facts = facts or read_json(path)
        name = str(facts.get("dataset", ""))
        for file, checksum in dict(facts.get("sources") or {}).items():
            yield Node(str(file), "source", str(checksum))
        manifest = self.folder / layout.manifest(name)
        recorded = read_json(manifest).get(RAW) if manifest.is_file() else None
        if recorded is None:
            return
        now = RawDigests()(raw_files(name, self._data))
        if now is None:
            node.notes.append(f"the raw files of {name} are not here, so that they are not checked")
        elif now != recorded:
            node.problems.append(f"the raw files of {name} have changed since")


def trace(path: Path) -> Node:
    """Return the lineage of an artifact, a table, a figure or a page.

    Args:
        path: the file, usually in the folder of an experiment.

    Raises:
        RiftError: there is no such file.
    """

    def opened() -> None:
        with path.open("rb"):
            pass

    reading(path, opened)
    return Tracer(experiment_folder(path))(path)


def file_digest(path: Path) -> str:
    """Return the sha256 of the bytes of a file.

    Raises:
        RiftError: the file cannot be read.
    """

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return reading(path, digest)


def _digest_of(path: Path) -> str | None:
    """Return the digest of the content of a file; None if it is missing or cannot be read."""
    try:
        return content_digest(path)
    except RiftError:
        return None


def _is_array(path: Path) -> bool:
    return path.suffix == ".npy"
