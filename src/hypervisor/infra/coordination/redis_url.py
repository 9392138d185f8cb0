"""The setting REDIS_URL: its schemes, its parameters, and the URL without its password.

Without the client, whose package takes megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from hypervisor.errors import StartupError

TIMEOUT_SECONDS = 2.0
_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
_GROUPS = ("sentinel", "cluster")
_CHOICES = {
    "ssl_cert_reqs": ("none", "optional", "required"),
    "ssl_check_hostname": ("true", "false", "1", "0", "yes", "no"),
    "socket_keepalive": ("true", "false", "1", "0", "yes", "no"),
}
_NUMBERS = ("db", "health_check_interval")
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_TEXTS = ("username", "password", "client_name", "ssl_password")
_PREFIX_OF_PYTHON = "cert_"
"""`ssl_cert_reqs=CERT_NONE`, as Celery writes it, means `none`."""


def normalise_redis_url(url: str) -> str:
    """The URL as the client takes it. Raises StartupError in one line for any other URL."""
    try:
        parts = urlsplit(url.strip())
        _check_group(parts)
        is_valid = parts.scheme in _SCHEMES and _is_complete(parts)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise StartupError(
            "REDIS_URL is not the URL of a Redis or Valkey; use redis://host:6379/0, rediss:// with TLS, "
            "or unix:///path/to.sock"
        )
    query = urlencode(list(_parameters(parts)))
    location = url.strip().partition("://")[2].partition("?")[0]
    return f"{_SCHEMES[parts.scheme]}://{location}{f'?{query}' if query else ''}"


def printable_redis(url: str) -> str:
    """The URL without its password."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    login, at, location = rest.rpartition("@")
    user = f"{login.partition(':')[0]}:***@" if at else ""
    return f"{scheme}://{user}{location}"


def _check_group(parts: SplitResult) -> None:
    """Raise StartupError for several servers in one URL."""
    group = next((group for group in _GROUPS if group in parts.scheme), None)
    if group is not None or "," in parts.netloc.rpartition("@")[2]:
        named = f"a {group}" if group else "several hosts"
        raise StartupError(
            f"REDIS_URL names {named}, which is not supported; write the address of one Redis (its data may "
            "be lost at any time), or of a proxy that leads to the primary"
        )


def _is_complete(parts: SplitResult) -> bool:
    """Whether path or host are there, and the database is a number. Raises ValueError for an invalid port."""
    if parts.scheme == "unix":
        return bool(parts.path)
    _ = parts.port
    number = parts.path.strip("/")
    return bool(parts.hostname) and (not number or number.isdecimal())


def _parameters(parts: SplitResult) -> Iterator[tuple[str, str]]:
    """The parameters with the client's values. Raises StartupError for one that the client cannot use."""
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name.startswith("ssl_") and _SCHEMES[parts.scheme] != "rediss":
            raise StartupError(f"REDIS_URL: {name} is for TLS only; write rediss://, or remove it")
        yield name, _value(name, value)


def _value(name: str, value: str) -> str:
    choices = _CHOICES.get(name)
    if choices is not None:
        chosen = value.lower().removeprefix(_PREFIX_OF_PYTHON)
        if chosen not in choices:
            raise StartupError(f"REDIS_URL: {name}={value} is not supported; write {' or '.join(choices)}")
        return chosen
    if name in _NUMBERS:
        if not (value.isascii() and value.isdecimal()):
            raise StartupError(f"REDIS_URL: {name}={value} is not a number; write a whole number")
    elif name in _FILES:
        if not Path(value).exists():
            raise StartupError(f"REDIS_URL: {name} names {value}, which does not exist; name a file")
    elif name not in _TEXTS:
        raise StartupError(f"REDIS_URL: the parameter {name!r} is not supported; remove it")
    return value
