"""The coordination state of one process: hints and queue index."""

from __future__ import annotations

from hypervisor.infra.coordination.bus import Bus
from hypervisor.infra.coordination.queue_index import QueueIndex
from hypervisor.infra.wakeup import Wakeup

QUEUE_TOPIC = "queue-index"
"""Topic of the hint that the index of some cluster must be built."""


class Coordination:
    """Hints and queue index of this process. Start it on the event loop; close it at the end.

    `queue` is None on PostgreSQL without Redis: other processes change the queue too, so no index in memory
    can follow the rows. Queue positions are then counted in the database.
    """

    def __init__(self, wakeup: Wakeup, *, bus: Bus | None, queue: QueueIndex | None, backend: str) -> None:
        self.wakeup = wakeup
        self.bus = bus
        self.queue = queue
        self._backend = backend

    async def start(self) -> None:
        """Connect in the background: an unreachable backend costs only speed."""
        if self.bus is not None:
            self.bus.start()
        if self.queue is not None:
            self.queue.start(lambda: self.wakeup.notify(QUEUE_TOPIC))

    async def close(self) -> None:
        if self.queue is not None:
            await self.queue.close()
        if self.bus is not None:
            await self.bus.stop()

    def describe(self) -> str:
        """The backend, for people."""
        return self._backend
