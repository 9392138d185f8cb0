"""Who is considered first: a total order over the queue."""

from __future__ import annotations

import numpy as np

from hypervisor.scheduling.snapshot import Int64, PendingTable


def queue_order(pending: PendingTable) -> Int64:
    """Rows of the queue from first to last: higher priority, then older, then the lower deployment id.

    Ending in an id makes the order total, so that the same queue is always worked through the same way.
    Fair share and aging enter here as further keys between priority and creation time.
    """
    keys = (pending.deployment_id, pending.created_at, -pending.priority.astype(np.int64))
    return np.lexsort(keys).astype(np.int64)
