"""Where this machine's container engine is, and whether it answers; apart from its client.

That takes megabytes, which a server without work for the engine need not spend.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Final

from hypervisor.runtimes.protocol import RuntimeUnavailable

_DEFAULT: Final = Path("/var/run/docker.sock")
_UNIX: Final = "unix://"
_SECONDS: Final = 10.0


def default_endpoint() -> str:
    """DOCKER_HOST, the socket of the machine's engine, or that of the user's own where there is no other."""
    named = os.environ.get("DOCKER_HOST")
    if named:
        return named
    rootless = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "docker.sock"
    return f"{_UNIX}{rootless if rootless.is_socket() and not _DEFAULT.is_socket() else _DEFAULT}"


async def describe_engine(endpoint: str | None) -> str | None:
    """What the engine at this endpoint (None: the default one) is; None where only its client can ask it.

    Raises RuntimeUnavailable.
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
        words = str(error) or type(error).__name__
        raise RuntimeUnavailable(f"no answer from the engine at {address}: {words}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeUnavailable(f"what answers at {address} is not a container engine") from error


async def _version(path: str) -> Any:
    """The engine's own answer. After HTTP/1.0 it hangs up, so that everything read is the answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(b"GET /version HTTP/1.0\r\nHost: engine\r\n\r\n")
        _, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return json.loads(body)
