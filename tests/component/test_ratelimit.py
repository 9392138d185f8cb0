"""Rate limits in this process, in Redis, and while Redis is down."""

from __future__ import annotations

import pytest
from limits import RateLimitItemPerMinute

from hypervisor.errors import StartupError, TooManyRequests
from hypervisor.infra import ratelimit
from hypervisor.infra.ratelimit import RateLimiter, address_key, parse_limit
from tests.support.redis import RedisServer
from tests.support.servers import free_port

LIMIT = RateLimitItemPerMinute(3)


async def test_a_limit_counts_each_key_alone_and_sends_retry_after() -> None:
    limiter = RateLimiter()
    for _ in range(3):
        await limiter.check(LIMIT, "requests", "user:1")
    with pytest.raises(TooManyRequests) as refused:
        await limiter.check(LIMIT, "requests", "user:1")
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    await limiter.check(LIMIT, "requests", "user:2")
    await limiter.check(LIMIT, "logins", "user:1")


async def test_servers_share_a_limit_through_redis(redis_url: str) -> None:
    limiters = [RateLimiter(redis_url), RateLimiter(redis_url)]
    for number in range(3):
        await limiters[number % 2].check(LIMIT, "requests", "user:1")
    for limiter in limiters:
        with pytest.raises(TooManyRequests):
            await limiter.check(LIMIT, "requests", "user:1")


async def test_a_limit_holds_while_redis_is_flushed_stopped_and_back(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratelimit, "RETRY_REDIS_SECONDS", 0.0)
    first, second = RateLimiter(own_redis.url), RateLimiter(own_redis.url)
    await exhaust(first)
    own_redis.call("FLUSHALL")
    await exhaust(second)
    own_redis.stop()
    await exhaust(first)
    own_redis.start()
    for limiter in (first, second):
        # The first call of each finds its connection closed and is counted in the process.
        await limiter.check(LIMIT, "requests", "user:2")
    await exhaust(second)
    with pytest.raises(TooManyRequests):
        await first.check(LIMIT, "requests", "user:1")


async def exhaust(limiter: RateLimiter) -> None:
    """Use the whole limit; the call after that is refused."""
    for _ in range(3):
        await limiter.check(LIMIT, "requests", "user:1")
    with pytest.raises(TooManyRequests):
        await limiter.check(LIMIT, "requests", "user:1")


async def test_while_redis_is_down_each_process_keeps_the_limit() -> None:
    limiter = RateLimiter(f"redis://127.0.0.1:{free_port()}/0")
    for _ in range(3):
        await limiter.check(LIMIT, "requests", "user:1")
    with pytest.raises(TooManyRequests):
        await limiter.check(LIMIT, "requests", "user:1")


def test_addresses_of_one_customer_count_as_one() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:2")
    assert address_key("192.0.2.1") != address_key("192.0.2.2")
    assert address_key(None) == "unknown"


def test_a_limit_setting_is_checked_at_start() -> None:
    assert parse_limit(" ") is None
    assert parse_limit("1200/minute") is not None
    for wrong in ("often", "0/minute"):
        with pytest.raises(StartupError, match="RATE_LIMIT"):
            parse_limit(wrong)
