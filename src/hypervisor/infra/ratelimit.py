"""Limits on how often somebody may call: in Redis where there is one, else in this process, never off.

When Redis fails the limits go on in this process until it is back.
"""

from __future__ import annotations

import math
import time
from importlib.util import find_spec
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Literal

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from structlog import get_logger

from hypervisor.errors import StartupError, TooManyRequests

REDIS_TIMEOUT_SECONDS = 2.0
_REDIS_CLIENTS: tuple[tuple[str, Literal["redispy", "valkey"]], ...] = (
    ("redis", "redispy"),
    ("valkey", "valkey"),
)

log = get_logger(__name__)


class RateLimiter:
    """Moving windows per key. `limits` keeps only weak references to storages, so they are held here."""

    def __init__(self, redis_url: str | None = None) -> None:
        self._local = MemoryStorage()
        self._shared: Storage | None = _redis(redis_url) if redis_url else None

    async def check(self, limit: RateLimitItem, what: str, key: str) -> None:
        """Count one call of `what` by `key`. Raises TooManyRequests with `Retry-After`."""
        if self._shared is not None:
            try:
                await _count(self._shared, limit, what, key)
                return
            except StorageError as error:
                log.warning("rate_limit.redis_unavailable", error=str(error))
        await _count(self._local, limit, what, key)


def parse_limit(expression: str) -> RateLimitItem | None:
    """Parse "1200/minute"; empty means no limit. Raises StartupError for anything else."""
    if not expression.strip():
        return None
    try:
        return parse(expression)
    except ValueError:
        raise StartupError(f"RATE_LIMIT: {expression!r} is no limit; write for example 1200/minute") from None


def address_key(host: str | None) -> str:
    """What a network address counts as: itself for IPv4, its /64 for IPv6 (one customer owns all of it)."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return host or "unknown"
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)


def too_many_requests(code: str, detail: str, retry_after_seconds: float) -> TooManyRequests:
    """A refusal that says when to come back, in whole seconds."""
    seconds = max(1, math.ceil(retry_after_seconds))
    return TooManyRequests(
        code, detail, extra={"retry_after": seconds}, headers={"Retry-After": str(seconds)}
    )


async def _count(storage: Storage, limit: RateLimitItem, what: str, key: str) -> None:
    limiter = MovingWindowRateLimiter(storage)
    if await limiter.hit(limit, what, key):
        return
    stats = await limiter.get_window_stats(limit, what, key)
    wait = stats.reset_time - time.time()
    raise too_many_requests(
        "rate_limited", f"Too many requests ({limit}). Try again in {max(1, math.ceil(wait))} s.", wait
    )


def _redis(url: str) -> Storage:
    options: dict[str, Any] = {
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
    }
    for module, implementation in _REDIS_CLIENTS:
        if find_spec(module) is not None:
            return RedisStorage(
                f"async+{url}", wrap_exceptions=True, implementation=implementation, **options
            )
    raise StartupError("REDIS_URL is set, but no Redis client is installed: `pip install redis`")
