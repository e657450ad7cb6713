"""The lineage of tables, figures and pages, whose formats have no place for provenance."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rift.artifacts import Provenance, content_digest, write_json
from rift.lineage.tracing import FILES, file_digest


def write_lineage(
    path: Path, outputs: Sequence[Path], folder: Path, read: Iterable[Path], source: Provenance
) -> None:
    """Write which files a table, a figure or a page consists of, and which artifacts it shows.

    Args:
        path: file to write, in the folder of the outputs.
        outputs: files of the table or figure, already written.
        folder: folder of the experiment.
        read: files that were read for it. Those outside of the experiment, and arrays that another
            file describes, are omitted.
        source: provenance of the outputs without inputs.

    Raises:
        RiftError: a file cannot be read or written.
    """
    root = folder.absolute()
    inside = {each.absolute() for each in read if each.suffix != ".npy"}
    inputs = {
        each.relative_to(root).as_posix(): content_digest(each)
        for each in sorted(inside)
        if each.is_relative_to(root)
    }
    files = {each.name: file_digest(each) for each in outputs}
    write_json(path, {FILES: files}, {**source, "inputs": inputs})
