"""Choice of the coordination backend: Redis, PostgreSQL notifications, or this process alone."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hypervisor.infra.coordination.bus import Bus
from hypervisor.infra.coordination.coordination import Coordination
from hypervisor.infra.coordination.postgres_connector import PostgresConnector
from hypervisor.infra.coordination.queue_index import MemoryQueueIndex
from hypervisor.infra.coordination.redis_url import normalise_redis_url
from hypervisor.infra.wakeup import Wakeup


def connect(
    wakeup: Wakeup, *, redis_url: str | None, postgres: PostgresConnector | None, install: str
) -> Coordination:
    """Coordination over Redis if `redis_url` is set, else over PostgreSQL's notifications.

    On SQLite (`postgres` is None) without Redis it stays in this process. Raises StartupError for an invalid
    `redis_url`.
    """
    if redis_url:
        over_redis: Coordination = _module("redis_coordination").connect_redis(
            wakeup, normalise_redis_url(redis_url), install
        )
        return over_redis
    if postgres is not None:
        bus = Bus(wakeup, _module("postgres_link").postgres_link(postgres))
        backend = "PostgreSQL LISTEN/NOTIFY (REDIS_URL adds shared rate limits and a queue index)"
        return Coordination(wakeup, bus=bus, queue=None, backend=backend)
    return Coordination(wakeup, bus=None, queue=MemoryQueueIndex(), backend="this process alone")


def _module(name: str) -> Any:
    """Import on demand: the clients of Redis and PostgreSQL are large, and most installations need one."""
    return import_module(f"hypervisor.infra.coordination.{name}")
