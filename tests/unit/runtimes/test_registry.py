"""Runtimes are described without being opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hypervisor.runtimes.docker.endpoint import describe_engine
from hypervisor.runtimes.protocol import Runtime, RuntimeUnavailable
from hypervisor.runtimes.registry import RuntimeRegistry
from tests.support.own_engine import short_folder

VERSION = (
    b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"Version": "27.1", "ApiVersion": "1.46"}'
)


def opened(_: str | None) -> Runtime:
    raise AssertionError("opened, although the describer is enough")


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """The endpoint of a server that sends this response to every request."""

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    with short_folder() as folder:
        async with await asyncio.start_unix_server(give, folder / "engine.sock"):
            yield f"unix://{folder / 'engine.sock'}"


async def test_an_engine_that_answers_is_described_without_its_client() -> None:
    async with answering(VERSION) as endpoint:
        runtimes = RuntimeRegistry(
            {"docker": opened}, describers={"docker": lambda: describe_engine(endpoint)}
        )
        described = f"Docker Engine 27.1 at {endpoint}"
        assert await runtimes.describe_all() == {"docker": described}
        assert await runtimes.resolve("auto") == "docker"


async def test_an_engine_without_a_socket_is_not_opened(tmp_path: Path) -> None:
    endpoint = f"unix://{tmp_path / 'none.sock'}"
    runtimes = RuntimeRegistry({"docker": opened}, describers={"docker": lambda: describe_engine(endpoint)})
    assert await runtimes.resolve("auto") == "simulated"
    found = await runtimes.describe_all()
    assert found["docker"] == (
        f"not available: no answer from the engine at {endpoint}: there is no such socket"
    )


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 200 OK\r\n\r\n<html>", b"HTTP/1.0 404 no\r\n\r\n{}"])
async def test_another_server_is_not_taken_for_an_engine(answer: bytes) -> None:
    async with answering(answer) as endpoint:
        with pytest.raises(RuntimeUnavailable, match="not a container engine"):
            await describe_engine(endpoint)


async def test_a_network_endpoint_needs_the_client() -> None:
    assert await describe_engine("tcp://gpu-7:2376") is None
