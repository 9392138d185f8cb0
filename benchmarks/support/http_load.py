"""HTTP load from many keep-alive connections, with little CPU time in the client.

The SDK needs as much CPU time as the request itself, so the requests here are prepared bytes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Prepare = Callable[[int], bytes]
"""Returns the bytes of a request by its number."""


@dataclass
class Outcome:
    """The seconds of each response with the expected status, and the number of other responses."""

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Responses with the expected status per second."""
        return len(self.latencies) / self.seconds


def request(method: str, path: str, token: str, body: object = None, **headers: str) -> bytes:
    """An HTTP/1.1 request of the API with a bearer token. `headers` are by name with _ for -."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} /api/v1{path} HTTP/1.1", "Host: bench", f"Authorization: Bearer {token}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


async def drive(
    urls: Sequence[str], prepare: Prepare, *, clients: int, seconds: float, expected: int
) -> Outcome:
    """Send requests over `clients` connections, spread over the servers, for `seconds`, at least one each."""
    outcome = Outcome()
    numbers = iter(range(10**9))
    began = time.monotonic()

    async def client(url: str) -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        sent = began
        while sent == began or time.monotonic() - began < seconds:
            message = prepare(next(numbers))
            sent = time.monotonic()
            writer.write(message)
            if await _status(reader) == expected:
                outcome.latencies.append(time.monotonic() - sent)
            else:
                outcome.refused += 1
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(urls[number % len(urls)]) for number in range(clients)))
    outcome.seconds = time.monotonic() - began
    return outcome


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the next response. Its body is read too; the API always sends Content-Length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *headers = head.split("\r\n")
    lengths = [line.partition(":")[2] for line in headers if line.lower().startswith("content-length:")]
    await reader.readexactly(int(lengths[0]))
    return int(status.split()[1])
