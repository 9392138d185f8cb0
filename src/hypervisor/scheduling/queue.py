"""The queue as a pass sees it: in order, and grouped into kinds that are decided alike."""

from __future__ import annotations

import numpy as np

from hypervisor.scheduling.snapshot import Int64, Snapshot


class Queue:
    """Pending rows in queue order. A kind is a shape at a priority that yields or does not.

    `yields` says that it could be evicted as soon as it runs: preemptible and without a minimum runtime.
    When one member of a kind could not be admitted, those behind it cannot either, so a pass over a deep
    queue with nothing to do is a pass over the kinds.
    """

    def __init__(self, snapshot: Snapshot, order: Int64) -> None:
        pending = snapshot.pending
        self.pending = pending
        self.order = order
        self._yields = pending.preemptible & ~pending.protected
        keys = (pending.priority.astype(np.int64) * max(1, len(snapshot.shapes)) + pending.shape) * 2
        unique, first, kind = np.unique(keys + self._yields, return_index=True, return_inverse=True)
        self.kinds = len(unique)
        self.kind: Int64 = kind.reshape(-1)
        self.sample: Int64 = first

    def deployment_id(self, row: int) -> int:
        return int(self.pending.deployment_id[row])

    def priority(self, row: int) -> int:
        return int(self.pending.priority[row])

    def shape(self, row: int) -> int:
        return int(self.pending.shape[row])

    def yields(self, row: int) -> bool:
        return bool(self._yields[row])

    def rows_of(self, deployment_ids: set[int]) -> dict[int, int]:
        """Pending rows of these deployments, by id; those that are not pending are left out."""
        wanted = np.fromiter(deployment_ids, np.int64, len(deployment_ids))
        rows = np.flatnonzero(np.isin(self.pending.deployment_id, wanted))
        return {int(self.pending.deployment_id[row]): int(row) for row in rows}
