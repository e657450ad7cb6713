"""The modules of lowest MRC (scopes ``rift``, ``top2`` …)."""

from rift.criticality.rows import Choose, Table
from rift.errors import RiftError


def least_critical(count: int) -> Choose:
    """Choose the modules of lowest MRC out of those that may be."""

    def choose(_table: Table, candidates: Table) -> list[str]:
        if len(candidates) < count:
            raise RiftError(
                f"{len(candidates)} modules are left to choose {count} from; lower finetune.least_share or widen finetune.part"
            )
        return [row.module for row in sorted(candidates, key=lambda row: row.rank)[:count]]

    return choose
