"""Artifacts: the files that stages exchange.

Each is written completely or not at all, and contains its provenance. Weights and image sets are
safetensors, tables are CSV with one leading comment line, results are JSON, and outcomes of images
are npz. No file contains facts that differ between two equal runs (time, host), so that equal runs
give equal bytes.
"""

from rift.artifacts.checking import FORMATS, checked_provenance, recorded_provenance
from rift.artifacts.digests import Array, digest_of_arrays, without_digests
from rift.artifacts.files import (
    LockedError,
    check_writable,
    locked,
    reading,
    recording_reads,
    remove_leftovers,
    replacing,
    wait_until_unlocked,
    write_bytes,
    write_text,
)
from rift.artifacts.finished import adopt_finished, finished_name, forget_finished, keep_finished
from rift.artifacts.formats import (
    OUTCOMES,
    content_digest,
    read_array,
    read_csv,
    read_json,
    read_origin,
    read_outcomes,
    read_provenance,
    write_array,
    write_csv,
    write_json,
    write_outcomes,
)
from rift.artifacts.provenance import (
    STAGE_VERSIONS,
    Provenance,
    commit,
    provenance,
    stage_version,
)
from rift.artifacts.resume import Work, differing_flags, resumable
from rift.artifacts.states import read_state, write_state
from rift.artifacts.tensors import (
    read_arrays,
    read_facts,
    read_weights,
    write_arrays,
    write_weights,
)

__all__ = [
    "FORMATS",
    "OUTCOMES",
    "STAGE_VERSIONS",
    "Array",
    "LockedError",
    "Provenance",
    "Work",
    "adopt_finished",
    "check_writable",
    "checked_provenance",
    "commit",
    "content_digest",
    "differing_flags",
    "digest_of_arrays",
    "finished_name",
    "forget_finished",
    "keep_finished",
    "locked",
    "provenance",
    "read_array",
    "read_arrays",
    "read_csv",
    "read_facts",
    "read_json",
    "read_origin",
    "read_outcomes",
    "read_provenance",
    "read_state",
    "read_weights",
    "reading",
    "recorded_provenance",
    "recording_reads",
    "remove_leftovers",
    "replacing",
    "resumable",
    "stage_version",
    "wait_until_unlocked",
    "without_digests",
    "write_array",
    "write_arrays",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_outcomes",
    "write_state",
    "write_text",
    "write_weights",
]
