"""Where Redis is and how long to wait for it. Valkey speaks the same protocol and is addressed alike."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hypervisor.errors import StartupError

TIMEOUT_SECONDS = 2.0
_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}


def normalise_redis_url(url: str) -> str:
    """The URL as the client knows it. Raises StartupError for what is no URL of a Redis or Valkey."""
    try:
        parts = urlsplit(url.strip())
        known = parts.scheme in _SCHEMES and bool(parts.path if parts.scheme == "unix" else parts.hostname)
        _ = parts.port
    except ValueError:
        known = False
    if not known:
        raise StartupError(
            "REDIS_URL is not the URL of a Redis or Valkey; use redis://host:6379/0, rediss:// with TLS, "
            "or unix:///path/to.sock"
        )
    return f"{_SCHEMES[parts.scheme]}://{url.strip().partition('://')[2]}"


def printable_redis(url: str) -> str:
    """The URL without its password."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    login, at, place = rest.rpartition("@")
    user = f"{login.partition(':')[0]}:***@" if at else ""
    return f"{scheme}://{user}{place}"


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
