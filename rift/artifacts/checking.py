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


def checked_provenance(path: Path) -> Provenance:
    """Return the provenance of an artifact after a check of its whole content.

    A ``.npy`` file has the provenance of the JSON file beside it, which contains its digests.

    Raises:
        RiftError: the file is missing or damaged.
    """
    match path.suffix:
        case ".safetensors":
            read_weights(path)
            return dict(read_facts(path).get(PROVENANCE, {}))
        case ".csv":
            read_csv(path, ())
            return read_provenance(path)
        case ".npz":
            read_outcomes(path)
            return read_origin(path)
        case ".npy":
            return _checked_images(path)
        case _:
            return dict(read_json(path).get(PROVENANCE, {}))


def _checked_images(path: Path) -> Provenance:
    """Return the provenance of corrupted images after a check of every severity."""
    images = read_array(path)
    facts = read_json(path.with_suffix(".json"), ("severities",))
    digests = list(facts["severities"])
    if not digests or len(images) % len(digests):
        raise damaged(path)
    parts = images.reshape(len(digests), -1, *images.shape[1:])
    if [digest_of_arrays({"images": part}) for part in parts] != digests:
        raise damaged(path)
    return dict(facts.get(PROVENANCE, {}))
