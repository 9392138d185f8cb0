"""Rate limits per caller, in Redis if it is configured, else in this process.

While Redis is down this process counts alone; the limits are never off.
"""

from __future__ import annotations

import math
import time
from ipaddress import IPv6Address, ip_network
from typing import Any

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from structlog import get_logger

from hypervisor.addresses import parse_address
from hypervisor.errors import StartupError, TooManyRequests
from hypervisor.infra.coordination.redis_url import TIMEOUT_SECONDS, normalise_redis_url

RETRY_REDIS_SECONDS = 5.0
"""Time between two tries after Redis failed: not every request should wait for it."""

log = get_logger(__name__)


class RateLimiter:
    """Moving windows per key. `limits` keeps only weak references to storages, so this object holds them."""

    def __init__(self, redis_url: str | None = None) -> None:
        self._local = MemoryStorage()
        self._shared: Storage | None = _redis(redis_url) if redis_url else None
        self._redis_down_until = float("-inf")

    async def check(self, limit: RateLimitItem, operation: str, key: str) -> None:
        """Count one call of `operation` by `key`. Raises TooManyRequests with `Retry-After`."""
        if self._shared is not None and time.monotonic() >= self._redis_down_until:
            try:
                await _count(self._shared, limit, operation, key)
                return
            except StorageError as error:
                self._redis_down_until = time.monotonic() + RETRY_REDIS_SECONDS
                log.warning("rate_limit.redis_unavailable", error=str(error))
        await _count(self._local, limit, operation, key)


def parse_limit(expression: str) -> RateLimitItem | None:
    """Parse "1200/minute"; empty means no limit. Raises StartupError for anything else."""
    if not expression.strip():
        return None
    try:
        limit = parse(expression)
    except ValueError:
        raise StartupError(
            f"RATE_LIMIT: {expression!r} is not a rate limit; write for example 1200/minute"
        ) from None
    if limit.amount < 1:
        raise StartupError(f"RATE_LIMIT: {expression!r} allows no request; leave it empty for no limit")
    return limit


def address_key(host: str | None) -> str:
    """The rate limit key of a network address: IPv4 as is, IPv6 as its /64 (usually one customer).

    An IPv4 address in IPv6 form, as a proxy may report it, is an IPv4 address.
    """
    address = parse_address(host or "")
    if address is None:
        return host or "unknown"
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)


def too_many_requests(code: str, detail: str, retry_after_seconds: float) -> TooManyRequests:
    """TooManyRequests with the delay in whole seconds, at least 1, in body and header."""
    seconds = max(1, math.ceil(retry_after_seconds))
    return TooManyRequests(
        code, detail, extra={"retry_after": seconds}, headers={"Retry-After": str(seconds)}
    )


async def _count(storage: Storage, limit: RateLimitItem, operation: str, key: str) -> None:
    limiter = MovingWindowRateLimiter(storage)
    if await limiter.hit(limit, operation, key):
        return
    stats = await limiter.get_window_stats(limit, operation, key)
    wait = stats.reset_time - time.time()
    raise too_many_requests(
        "rate_limited", f"Too many requests ({limit}). Try again in {max(1, math.ceil(wait))} s.", wait
    )


def _redis(url: str) -> Storage:
    address = normalise_redis_url(url).replace("unix://", "redis+unix://", 1)
    options: dict[str, Any] = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    return RedisStorage(f"async+{address}", wrap_exceptions=True, implementation="redispy", **options)
