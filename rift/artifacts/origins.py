"""Bases whose source is no longer the one that the experiment names."""

from pathlib import Path

from rift.artifacts.formats import content_digest
from rift.artifacts.provenance import Provenance
from rift.artifacts.tensors import read_facts
from rift.config import Experiment, ImportedBase
from rift.errors import RiftError
from rift.layout import BASE


def stale_bases(experiment: Experiment, folder: Path) -> list[str]:
    """Return the existing bases that come from another source than the experiment says.

    Such a base was trained and should be imported or the reverse, or it was made from weights whose
    content has changed since. The dates of files do not count. Bases without provenance and sources
    that do not exist are left to the stage that reads them.

    Args:
        experiment: the experiment.
        folder: its folder, ``results/NAME``.
    """
    imports, digests = experiment.imports, dict[str, str | None]()
    stale: list[str] = []
    for run in (*experiment.runs, *experiment.outside):
        path = folder / run.name / BASE
        source = _source(path)
        if source.get("stage") not in ("train", "import"):
            continue
        if run in imports:
            stage, files = "import", dict.fromkeys(imports[run].files, "weights")
        else:
            init = experiment.settings_of(run).train.init
            named = ImportedBase(weights=init).files if init else []
            stage, files = "train", {file: f"init.{file}" for file in named}
        for file in files:
            if file not in digests:
                digests[file] = content_digest(Path(file)) if Path(file).is_file() else None
        recorded = source.get("inputs", {})
        changed = (
            name in recorded and digests[file] not in (None, recorded[name])
            for file, name in files.items()
        )
        if source["stage"] != stage or any(changed):
            stale.append(str(path))
    return stale


def _source(path: Path) -> Provenance:
    """Return the provenance of a base; an empty dict if it has none or is damaged."""
    try:
        return dict(read_facts(path).get("provenance", {})) if path.is_file() else {}
    except RiftError:
        return {}
