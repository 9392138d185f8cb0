"""What replicas share where there is a Redis or Valkey."""

from __future__ import annotations

from hypervisor.infra.coordination.bus import Bus
from hypervisor.infra.coordination.connect import Coordination
from hypervisor.infra.coordination.redis_link import redis_link
from hypervisor.infra.coordination.redis_queue import RedisQueueIndex
from hypervisor.infra.coordination.redis_url import printable_redis
from hypervisor.infra.wakeup import Wakeup

FIRST_ANSWER_SECONDS = 2.0


class RedisCoordination(Coordination):
    """Waits a moment for Redis at its start, so that it is told at once where it does not answer."""

    def __init__(self, wakeup: Wakeup, bus: Bus, index: RedisQueueIndex, means: str) -> None:
        super().__init__(wakeup, bus=bus, queue=index, means=means)
        self._index = index

    async def start(self) -> None:
        await super().start()
        await self._index.first_answer(FIRST_ANSWER_SECONDS)

    def describe(self) -> str:
        told = super().describe()
        if self._index.connected:
            return told
        return f"{told}, which does not answer now: slower, nothing else, until it does"


def connect_redis(wakeup: Wakeup, url: str, install: str) -> Coordination:
    """Hints by publish and subscribe, and the index of the queues, on the Redis at this normalised URL."""
    bus = Bus(wakeup, redis_link(url, f"hypervisor:{install}:hints"))
    return RedisCoordination(wakeup, bus, RedisQueueIndex(url, install), f"Redis at {printable_redis(url)}")
