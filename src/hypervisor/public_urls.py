"""PUBLIC_URL: the URL of the server for others, and why one cannot work. Standard library only."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

_API = "/api/v1"
OWN_PATHS = frozenset(
    ("/admin", "/docs", "/healthz", "/metrics", "/openapi.json", "/readyz", "/redoc", "/static", "/swagger")
)
"""With one of these as its prefix the server could not tell a path from its own. /api alone has no page."""
_PATH = re.compile(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*")
"""Of RFC 3986, without empty segments."""


def check_public_url(value: str) -> str:
    """The URL without a trailing slash. Raises ValueError with advice for one that cannot work."""
    parts = parse_http_url(value)
    if parts is None or parts.query or parts.fragment:
        raise ValueError("must be a URL like https://hypervisor.example.com, without query and fragment")
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    path = parts.path.rstrip("/")
    if "@" in parts.netloc:
        raise ValueError(f"has a user or password, which would be in every link; write {server}{path}")
    if path == _API or path.startswith(f"{_API}/"):
        raise ValueError(f"is an address of the API; write the address of the server: {server}")
    if path in OWN_PATHS:
        raise ValueError(f"has the path {path} of the server itself; write another, like {server}/hv")
    if not _PATH.fullmatch(path) or not _can_be_sent(path):
        raise ValueError(f"has a path that clients change or cannot send; write one like {server}/hv")
    return f"{parts.scheme}://{parts.netloc}{path}"


def parse_http_url(value: str) -> SplitResult | None:
    """The parts of an absolute http or https URL, or None."""
    try:
        parts = urlsplit(value.strip())
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def _can_be_sent(path: str) -> bool:
    """Whether clients send it as written: "." and ".." are resolved, and some decoded characters are lost."""
    segments = [unquote(segment) for segment in path.split("/")]
    return not any(
        segment in (".", "..")
        or "/" in segment
        or "\\" in segment
        or "\ufffd" in segment
        or any(character < " " or character == "\x7f" for character in segment)
        for segment in segments
    )
