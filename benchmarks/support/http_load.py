"""Many clients over kept-alive connections, cheap enough to leave the machine to the server.

A client of the SDK costs as much processor time as the request that it makes; here a request is a few bytes
that were prepared before.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Prepare = Callable[[int], bytes]
"""The next request by its number, as it goes over the wire."""


@dataclass
class Outcome:
    """What came back: seconds of each answer with the expected status, and how many had another."""

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Expected answers a second."""
        return len(self.latencies) / self.seconds


def request(method: str, path: str, token: str, body: object = None, **headers: str) -> bytes:
    """One HTTP/1.1 request of the API with a bearer token; `headers` by name with _ for -."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} /api/v1{path} HTTP/1.1", "Host: bench", f"Authorization: Bearer {token}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


async def drive(
    urls: Sequence[str], prepare: Prepare, *, clients: int, seconds: float, expected: int
) -> Outcome:
    """`clients` connections, spread over the servers, each sending one request (at least) after the other."""
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
    """The status of the next answer, its body read to the end (the API always tells its length)."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *headers = head.split("\r\n")
    lengths = [line.partition(":")[2] for line in headers if line.lower().startswith("content-length:")]
    await reader.readexactly(int(lengths[0]))
    return int(status.split()[1])
