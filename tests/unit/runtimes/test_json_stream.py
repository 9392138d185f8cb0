"""Events and progress of an engine, whatever the length of a line and the chunks of the response."""

from __future__ import annotations

import json

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from hypervisor.runtimes.docker.json_stream import documents


@pytest.mark.parametrize("chunk", [7, 65_536, 10_000_000])
async def test_lines_of_any_length_are_read(chunk: int) -> None:
    written = [{"labels": "é" * 50}, {"labels": "x" * (3_000 if chunk < 100 else 300_000)}, {"last": True}]
    data = "\n\r\n".join(json.dumps(one, ensure_ascii=False) for one in written).encode()

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(data), chunk):
            await response.write(data[start : start + chunk])
        return response

    app = web.Application()
    app.router.add_get("/", respond)
    async with (
        TestServer(app) as server,
        ClientSession() as session,
        session.get(server.make_url("/")) as answer,
    ):
        assert [document async for document in documents(answer.content)] == written
