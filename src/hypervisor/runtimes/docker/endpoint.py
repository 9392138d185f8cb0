"""Finds and describes the container engine of this machine without the engine's client.

The client takes several megabytes, which a server that does not use the engine can save.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Final

from hypervisor.runtimes.kinds import RuntimeSetup
from hypervisor.runtimes.protocol import RuntimeUnavailable

_DEFAULT_SOCKET: Final = Path("/var/run/docker.sock")
_UNIX: Final = "unix://"
_SECONDS: Final = 10.0


def default_endpoint() -> str:
    """DOCKER_HOST, else the socket of the machine's engine, else the socket of the user's rootless engine."""
    docker_host = os.environ.get("DOCKER_HOST")
    if docker_host:
        return docker_host
    rootless = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "docker.sock"
    return (
        f"{_UNIX}{rootless if rootless.is_socket() and not _DEFAULT_SOCKET.is_socket() else _DEFAULT_SOCKET}"
    )


async def describe(setup: RuntimeSetup) -> str | None:
    """See `RuntimeModule`."""
    return await describe_engine(setup.settings.docker_host)


async def describe_engine(endpoint: str | None) -> str | None:
    """Describe the engine at this endpoint. None if only the client can reach it (no Unix socket).

    `endpoint` None is the default endpoint. Raises RuntimeUnavailable.
    """
    address = endpoint or default_endpoint()
    if not address.startswith(_UNIX):
        return None
    try:
        async with asyncio.timeout(_SECONDS):
            version = await _version(address.removeprefix(_UNIX))
        return f"Docker Engine {version['Version']} at {address}"
    except FileNotFoundError:
        raise RuntimeUnavailable(f"no answer from the engine at {address}: there is no such socket") from None
    except (OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise RuntimeUnavailable(f"no answer from the engine at {address}: {reason}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeUnavailable(f"the server at {address} is not a container engine") from error


async def _version(path: str) -> Any:
    """The response of /version. HTTP/1.0 makes the engine close the connection after it."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(b"GET /version HTTP/1.0\r\nHost: engine\r\n\r\n")
        _, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return json.loads(body)
