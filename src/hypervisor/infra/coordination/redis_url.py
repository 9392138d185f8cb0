"""Where Redis is and how long to wait for it. Valkey speaks the same protocol and is addressed alike."""

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
    """The URL as the client knows it. Raises StartupError for what is no URL of a Redis or Valkey."""
    try:
        parts = urlsplit(url.strip())
        known = parts.scheme in _SCHEMES and _is_complete(parts)
    except ValueError:
        known = False
    if not known:
        raise StartupError(
            "REDIS_URL is not the URL of a Redis or Valkey; use redis://host:6379/0, rediss:// with TLS, "
            "or unix:///path/to.sock"
        )
    return f"{_SCHEMES[parts.scheme]}://{url.strip().partition('://')[2]}"


def _is_complete(parts: SplitResult) -> bool:
    """Raises ValueError for a port that is no number."""
    if parts.scheme == "unix":
        return bool(parts.path)
    _ = parts.port
    number = parts.path.strip("/")
    return bool(parts.hostname) and (not number or number.isdecimal())


def printable_redis(url: str) -> str:
    """The URL without its password."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    login, at, place = rest.rpartition("@")
    user = f"{login.partition(':')[0]}:***@" if at else ""
    return f"{scheme}://{user}{place}"
