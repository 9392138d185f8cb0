"""Where this machine's container engine is; apart from its client, which takes megabytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_DEFAULT: Final = Path("/var/run/docker.sock")
_UNIX: Final = "unix://"


def default_endpoint() -> str:
    """DOCKER_HOST, the socket of the machine's engine, or that of the user's own where there is no other."""
    named = os.environ.get("DOCKER_HOST")
    if named:
        return named
    rootless = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "docker.sock"
    return f"{_UNIX}{rootless if rootless.is_socket() and not _DEFAULT.is_socket() else _DEFAULT}"


def why_nobody_answers(endpoint: str | None) -> str | None:
    """What is missing for an engine to answer at this endpoint (None: the default one), by a look at its
    socket; None where it is worth asking.
    """
    address = endpoint or default_endpoint()
    if not address.startswith(_UNIX) or Path(address.removeprefix(_UNIX)).exists():
        return None
    return f"no answer from the engine at {address}: there is no such socket"
