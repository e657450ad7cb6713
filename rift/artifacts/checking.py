"""Artifacts of any format: their provenance, after a check of their content."""

from pathlib import Path

from rift.artifacts.digests import PROVENANCE, damaged, digest_of_arrays
from rift.artifacts.formats import (
    read_array,
    read_csv,
    read_json,
    read_origin,
    read_outcomes,
    read_provenance,
)
from rift.artifacts.provenance import Provenance
from rift.artifacts.tensors import read_facts, read_weights

FORMATS = (".safetensors", ".csv", ".npz", ".json", ".npy")
"""Endings of artifacts."""


def recorded_provenance(path: Path) -> Provenance:
    """Return the provenance of an artifact, without a check of its content.

    A ``.npy`` file has the provenance of the JSON file beside it, which contains its digests.

    Raises:
        RiftError: the file is missing or cannot be read.
    """
    match path.suffix:
        case ".safetensors":
            return dict(read_facts(path).get(PROVENANCE, {}))
        case ".csv":
            return read_provenance(path)
        case ".npz":
            return read_origin(path)
        case _:
            return dict(read_json(path.with_suffix(".json")).get(PROVENANCE, {}))


def checked_provenance(path: Path) -> Provenance:
    """Return the provenance of an artifact after a check of its whole content.

    Raises:
        RiftError: the file is missing or damaged.
    """
    match path.suffix:
        case ".safetensors":
            read_weights(path)
        case ".csv":
            read_csv(path, ())
        case ".npz":
            read_outcomes(path)
        case ".npy":
            _check_images(path)
    return recorded_provenance(path)


def _check_images(path: Path) -> None:
    """Check every severity of corrupted images."""
    images = read_array(path)
    digests = list(read_json(path.with_suffix(".json"), ("severities",))["severities"])
    if not digests or len(images) % len(digests):
        raise damaged(path)
    parts = images.reshape(len(digests), -1, *images.shape[1:])
    if [digest_of_arrays({"images": part}) for part in parts] != digests:
        raise damaged(path)
