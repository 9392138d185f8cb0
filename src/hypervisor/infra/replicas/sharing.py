"""What the replicas of one installation share beside the database: hints, and the index of the queues."""

from __future__ import annotations

from sqlalchemy.engine import URL

from hypervisor.infra.replicas.bus import Bus
from hypervisor.infra.replicas.postgres_link import postgres_link
from hypervisor.infra.replicas.queue_index import MemoryQueueIndex, QueueIndex
from hypervisor.infra.replicas.redis_client import normalise_redis_url, printable_redis
from hypervisor.infra.replicas.redis_link import redis_link
from hypervisor.infra.replicas.redis_queue import RedisQueueIndex
from hypervisor.infra.wakeup import Wakeup

QUEUE_TOPIC = "queue-index"
"""Given when the index of some cluster should be built."""
FIRST_ANSWER_SECONDS = 2.0


class Sharing:
    """Hints and queue index of this process. Start it on the event loop, close it at the end.

    `queue` is None where nobody could keep an index true: on PostgreSQL without Redis, other processes change
    the queue too. Places are then counted in the database.
    """

    def __init__(self, wakeup: Wakeup, *, bus: Bus | None, queue: QueueIndex | None, means: str) -> None:
        self.wakeup = wakeup
        self.bus = bus
        self.queue = queue
        self._means = means

    async def start(self) -> None:
        """Begin. A server that is away is waited for in the background: it costs speed only."""
        if self.bus is not None:
            self.bus.start()
        if self.queue is not None:
            self.queue.start(lambda: self.wakeup.notify(QUEUE_TOPIC))
        if isinstance(self.queue, RedisQueueIndex):
            await self.queue.first_answer(FIRST_ANSWER_SECONDS)

    async def close(self) -> None:
        if self.queue is not None:
            await self.queue.close()
        if self.bus is not None:
            await self.bus.stop()

    def describe(self) -> str:
        """What is used, for people."""
        if isinstance(self.queue, RedisQueueIndex) and not self.queue.connected:
            return f"{self._means}, which does not answer now: slower, nothing else, until it does"
        return self._means


def share(wakeup: Wakeup, *, redis_url: str | None, database_url: URL, install: str) -> Sharing:
    """Redis where it is set; else PostgreSQL's notifications, or this process alone on a SQLite file.

    Raises StartupError for a `redis_url` that is none.
    """
    if redis_url:
        url = normalise_redis_url(redis_url)
        bus = Bus(wakeup, redis_link(url, f"hypervisor:{install}:hints"))
        return Sharing(
            wakeup, bus=bus, queue=RedisQueueIndex(url, install), means=f"Redis at {printable_redis(url)}"
        )
    if database_url.get_backend_name() == "postgresql":
        bus = Bus(wakeup, postgres_link(database_url))
        means = "PostgreSQL LISTEN/NOTIFY (REDIS_URL adds shared rate limits and a queue index)"
        return Sharing(wakeup, bus=bus, queue=None, means=means)
    return Sharing(wakeup, bus=None, queue=MemoryQueueIndex(), means="this process alone")
