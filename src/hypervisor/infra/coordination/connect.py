"""What the replicas of one installation share beside the database: hints, and the index of the queues."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sqlalchemy.engine import URL

from hypervisor.infra.coordination.bus import Bus
from hypervisor.infra.coordination.queue_index import MemoryQueueIndex, QueueIndex
from hypervisor.infra.coordination.redis_url import normalise_redis_url
from hypervisor.infra.wakeup import Wakeup

QUEUE_TOPIC = "queue-index"
"""Given when the index of some cluster should be built."""


class Coordination:
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

    async def close(self) -> None:
        if self.queue is not None:
            await self.queue.close()
        if self.bus is not None:
            await self.bus.stop()

    def describe(self) -> str:
        """What is used, for people."""
        return self._means


def connect(wakeup: Wakeup, *, redis_url: str | None, database_url: URL, install: str) -> Coordination:
    """Redis where it is set; else PostgreSQL's notifications, or this process alone on a SQLite file.

    Raises StartupError for a `redis_url` that is none.
    """
    if redis_url:
        shared: Coordination = _module("redis_coordination").connect_redis(
            wakeup, normalise_redis_url(redis_url), install
        )
        return shared
    if database_url.get_backend_name() == "postgresql":
        bus = Bus(wakeup, _module("postgres_link").postgres_link(database_url))
        means = "PostgreSQL LISTEN/NOTIFY (REDIS_URL adds shared rate limits and a queue index)"
        return Coordination(wakeup, bus=bus, queue=None, means=means)
    return Coordination(wakeup, bus=None, queue=MemoryQueueIndex(), means="this process alone")


def _module(name: str) -> Any:
    """What only some installations use is loaded in these: the clients of Redis and PostgreSQL are large."""
    return import_module(f"hypervisor.infra.coordination.{name}")
