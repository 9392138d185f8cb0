"""Accepted values of REDIS_URL, and their form for people."""

from __future__ import annotations

import pytest

from hypervisor.errors import StartupError
from hypervisor.infra.coordination.redis_url import normalise_redis_url, printable_redis


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://user:word@cache.example.com/2", "rediss://user:word@cache.example.com/2"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("valkey://localhost:6379", "redis://localhost:6379"),
        ("valkeys://localhost:6379/1", "rediss://localhost:6379/1"),
    ],
)
def test_urls_of_redis_and_valkey_are_accepted(url: str, normalised: str) -> None:
    assert normalise_redis_url(url) == normalised


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost:6379",
        "redis://",
        "redis://host:port",
        "redis://host/zero",
        "unix://",
    ],
)
def test_anything_else_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(StartupError, match="REDIS_URL is not the URL") as refused:
        normalise_redis_url(url)
    assert "\n" not in str(refused.value)


def test_passwords_are_not_shown() -> None:
    assert printable_redis("redis://user:word@host:1/0?password=x") == "redis://user:***@host:1/0"
    assert printable_redis("redis://:word@host/0") == "redis://:***@host/0"
    assert printable_redis("redis://host:6379/0") == "redis://host:6379/0"
