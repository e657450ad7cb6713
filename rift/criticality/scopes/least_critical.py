"""The modules of lowest MRC (scopes ``rift``, ``top2`` …)."""

from rift.criticality.rows import Choose, Table
from rift.errors import RiftError


def least_critical(count: int) -> Choose:
    """Return the scope of the ``count`` candidates of lowest MRC.

    The scope raises a RiftError if the settings allow fewer candidates.
    """

    def choose(_table: Table, candidates: Table) -> list[str]:
        if len(candidates) < count:
            raise RiftError(
                f"the scope needs {count} modules, and finetune.least_share and finetune.part allow"
                f" {len(candidates)}; lower finetune.least_share or widen finetune.part"
            )
        return [row.module for row in sorted(candidates, key=lambda row: row.rank)[:count]]

    return choose
