"""A client of Redis or Valkey. Its package takes megabytes: for those to import who use a Redis."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hypervisor.infra.coordination.redis_url import TIMEOUT_SECONDS


def open_redis(url: str, *, retrying: bool = True) -> Redis:
    """A client with bounded waits; connects when it is first used.

    Without `retrying` a lost connection is an error at once, never mended behind the caller's back: who
    listens must know that something may have been missed.
    """
    options: dict[str, Any] = {} if retrying else {"retry": Retry(NoBackoff(), 0)}
    client: Redis = Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        **options,
    )
    return client
