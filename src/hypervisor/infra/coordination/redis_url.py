"""The URL of Redis and its time-out. Valkey speaks the same protocol and uses the same URLs."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

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
    """The URL with a scheme that the client supports. Raises StartupError for any other URL."""
    try:
        parts = urlsplit(url.strip())
        is_valid = parts.scheme in _SCHEMES and _is_complete(parts)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise StartupError(
            "REDIS_URL is not the URL of a Redis or Valkey; use redis://host:6379/0, rediss:// with TLS, "
            "or unix:///path/to.sock"
        )
    return f"{_SCHEMES[parts.scheme]}://{url.strip().partition('://')[2]}"


def _is_complete(parts: SplitResult) -> bool:
    """Whether path or host are there, and the database is a number. Raises ValueError for an invalid port."""
    if parts.scheme == "unix":
        return bool(parts.path)
    _ = parts.port
    number = parts.path.strip("/")
    return bool(parts.hostname) and (not number or number.isdecimal())


def printable_redis(url: str) -> str:
    """The URL without its password."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    login, at, location = rest.rpartition("@")
    user = f"{login.partition(':')[0]}:***@" if at else ""
    return f"{scheme}://{user}{location}"
