"""The files that an artifact was computed from.

Provenance names the inputs of an artifact by their roles, each with the digest of its content. The
layout of an experiment says which file has that role. An artifact outside of an experiment has no
layout: its inputs are found by their digests.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from rift import layout
from rift.artifacts import FORMATS, Provenance, content_digest
from rift.config import start_of_scope
from rift.errors import RiftError
from rift.layout import TO, Run


def experiment_folder(path: Path) -> Path:
    """Return the folder of the experiment that contains a file; its own folder if there is none."""
    absolute = path.absolute()
    for folder in absolute.parents:
        if _is_of_experiment(absolute.relative_to(folder).parts):
            return folder
    return absolute.parent


def _is_of_experiment(parts: tuple[str, ...]) -> bool:
    """Return whether a path has a form of the layout, below the folder of an experiment."""
    match parts:
        case ("runs" | "transfers", _, _, _, seed, _, *_):
            return seed.startswith("seed")
        case ("data", _, "prepared.safetensors" | "manifest.json"):
            return True
        case ("data", _, "corrupted", _) | ("tables", _):
            return True
        case ("figures", _, _) | ("figures", _, _, _, _):
            return True
    return False


def artifact_files(folder: Path) -> Iterator[Path]:
    """Yield all artifacts of an experiment, without tables and figures, in a fixed order.

    Labels beside corrupted images are for other programs, and are omitted.
    """
    for top in ("data", "transfers", "runs"):
        for path in sorted((folder / top).rglob("[!.]*")):
            if path.is_file() and path.suffix in FORMATS and path.name != "labels.npy":
                yield path


def input_files(folder: Path, path: Path, source: Provenance) -> dict[str, list[Path]]:
    """Return the files that may be the inputs of an artifact, by the roles in its provenance.

    The list of a role is empty if the layout does not know it. It has several files if the layout
    does not say which one it is.

    Args:
        folder: folder of the experiment.
        path: file of the artifact.
        source: its provenance.
    """
    parts = path.absolute().relative_to(folder).parts
    roles = dict.fromkeys(source.get("inputs") or {}, "")
    if parts[0] == "data" and len(parts) > 2:
        return {role: [folder / layout.prepared(parts[1])] for role in roles}
    if parts[0] in ("runs", "transfers") and len(parts) > 5:
        try:
            run = Run.parse("/".join(parts[:5]))
        except RiftError:
            return {role: [] for role in roles}
        return {role: _of_run(folder, run, parts[5:], role, source) for role in roles}
    return {role: [] for role in roles}


def _of_run(
    folder: Path, run: Run, inside: tuple[str, ...], role: str, source: Provenance
) -> list[Path]:
    """Return the files of one role for an artifact of a run.

    Args:
        folder: folder of the experiment.
        run: the run.
        inside: path of the artifact below the folder of the run.
        role: name of the input.
        source: provenance of the artifact.
    """
    own = folder / run.name
    if role.startswith("corrupted."):
        images = layout.corrupted(run.cell.target, role.removeprefix("corrupted."))
        return [(folder / images).with_suffix(".json")]
    if role.startswith("init."):
        return [Path(role.removeprefix("init."))]
    if role == "base" and source.get("stage") == "transfer":
        begin = run.cell.dataset.split(TO)[0]
        regimes = folder / "runs" / begin / run.cell.architecture
        return sorted(regimes.glob(f"*/seed{run.seed}/{layout.BASE}"))
    if role == "data":
        return [folder / layout.prepared(run.cell.target)]
    # The weights of an import are outside of the experiment, and code is beside it.
    if role not in _ROLES or source.get("stage") == "import":
        return []
    return [own / _ROLES[role](inside, str(source.get("stage")))]


def _start(inside: tuple[str, ...]) -> str:
    """Return the weights that the fine-tuning of a scope starts from."""
    start = start_of_scope(inside[0])
    return layout.BASE if start is None else layout.finetuned(start)


# Functions of the path of an artifact below its run and of its stage; they return a path below the
# run.
_ROLES: dict[str, Callable[[tuple[str, ...], str], str]] = {
    "base": lambda inside, stage: _start(inside) if stage == "finetune" else layout.BASE,
    "criticality": lambda inside, stage: layout.CRITICALITY,
    "finetuned": lambda inside, stage: layout.finetuned(inside[0]),
    "earned": lambda inside, stage: _start(inside),
    "weights": lambda inside, stage: layout.weights(inside[1]),
}


class Index:
    """The artifacts below a folder by the digest of their content; they are read at first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, Path] | None = None

    def __call__(self, digest: str) -> Path | None:
        """Return the file with this content, or None."""
        if self._found is None:
            self._found = {}
            for path in sorted(self._folder.rglob("[!.]*")):
                if path.is_file() and path.suffix in FORMATS:
                    try:
                        self._found.setdefault(content_digest(path), path)
                    except RiftError:
                        continue
        return self._found.get(digest)
