"""A client of Redis or Valkey. Import this module only if Redis is used: its package takes megabytes."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hypervisor.infra.coordination.redis_url import TIMEOUT_SECONDS


def open_redis(url: str, *, retrying: bool = True) -> Redis:
    """A client with time-outs; it connects at first use.

    Without `retrying` a lost connection is an error at once: a subscriber must learn that it may have missed
    messages.
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
