"""The one table of path aliases: earlier names, paths at the root, trailing slashes.

Paths are rewritten before routing and never redirected: a redirect would lose the body of a POST.
"""

from __future__ import annotations

import re

API_PREFIX = "/api/v1"

RESOURCES = ("auth", "organizations", "clusters", "deployments", "decisions")
"""First segments that are served both at the root and below /api/v1."""

RENAMED_RESOURCES = {
    "organization": "organizations",
    "cluster": "clusters",
    "deployment": "deployments",
}

RENAMED_PATHS = {
    "/register": "/auth/register",
    "/token": "/auth/login",
    "/login": "/auth/login",
    "/join-organization": "/organizations/join",
}

_KEEP_SLASHES = ("/admin", "/static")


_REPEATED_SLASHES = re.compile("/{2,}")


def without_prefix(path: str, prefix: str) -> str:
    """The path without the prefix of a proxy, if it has the prefix.

    A path of the API is returned as it is, so that a prefix may be `/api`.
    """
    rest = path[len(prefix) :]
    if not prefix or not _is_below(path, prefix):
        return path
    return path if _is_below(path, API_PREFIX) and not _is_below(rest, API_PREFIX) else rest or "/"


def canonical_path(path: str) -> str:
    """Return the path of the route for a requested path."""
    path = _REPEATED_SLASHES.sub("/", path)
    if path.split("/", 2)[1:2] and f"/{path.split('/', 2)[1]}" in _KEEP_SLASHES:
        return f"{path}/" if path in _KEEP_SLASHES else path
    bare = path.rstrip("/") or "/"
    below_api = bare.removeprefix(API_PREFIX) if _is_below(bare, API_PREFIX) else bare
    renamed = RENAMED_PATHS.get(below_api, below_api)
    first, *rest = renamed.removeprefix("/").split("/")
    first = RENAMED_RESOURCES.get(first, first)
    if first in RESOURCES:
        return "/".join((API_PREFIX, first, *rest))
    return bare


def _is_below(path: str, prefix: str) -> bool:
    return f"{path}/".startswith(f"{prefix}/")
