"""Coordination over Redis or Valkey."""

from __future__ import annotations

from hypervisor.infra.coordination.bus import Bus
from hypervisor.infra.coordination.coordination import Coordination
from hypervisor.infra.coordination.redis_link import redis_link
from hypervisor.infra.coordination.redis_queue import RedisQueueIndex
from hypervisor.infra.coordination.redis_url import printable_redis
from hypervisor.infra.wakeup import Wakeup

FIRST_ANSWER_SECONDS = 2.0


class RedisCoordination(Coordination):
    """Waits briefly for Redis at start, so that `describe` reports whether it answers."""

    def __init__(self, wakeup: Wakeup, bus: Bus, index: RedisQueueIndex, backend: str) -> None:
        super().__init__(wakeup, bus=bus, queue=index, backend=backend)
        self._index = index

    async def start(self) -> None:
        await super().start()
        await self._index.first_answer(FIRST_ANSWER_SECONDS)

    def describe(self) -> str:
        backend = super().describe()
        if self._index.connected:
            return backend
        return f"{backend}, which does not answer; the server is slower until it does, nothing else changes"


def connect_redis(wakeup: Wakeup, url: str, install: str) -> Coordination:
    """Hints over publish/subscribe and the queue index, on the Redis at this normalised URL."""
    bus = Bus(wakeup, redis_link(url, f"hypervisor:{install}:hints"))
    return RedisCoordination(wakeup, bus, RedisQueueIndex(url, install), f"Redis at {printable_redis(url)}")
