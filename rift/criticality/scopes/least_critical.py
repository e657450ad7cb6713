"""The modules of lowest MRC (scopes ``rift``, ``top2`` …)."""

from rift.criticality.rows import Choose, Table, check_settled
from rift.errors import RiftError


def least_critical(count: int) -> Choose:
    """Return the scope of the ``count`` candidates of lowest MRC.

    The scope raises a RiftError if the settings allow fewer candidates, or if a race has not
    settled them.
    """

    def choose(_table: Table, candidates: Table) -> list[str]:
        if len(candidates) < count:
            raise RiftError(
                f"the scope needs {count} modules, and finetune.least_share and finetune.part allow"
                f" {len(candidates)}; lower finetune.least_share or widen finetune.part"
            )
        chosen = sorted(candidates, key=lambda row: row.rank)[:count]
        check_settled(
            chosen,
            f"criticality.least {count}, and with finetune.least_share and finetune.part as"
            " criticality.least_share and criticality.part",
        )
        return [row.module for row in chosen]

    return choose
