"""Streams end with their source or with the server, and close their source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import pytest

from hypervisor.api import streams
from hypervisor.api.streams import until_stopping, with_silences
from tests.support.wait import PROMPT


class _Source:
    """Yields the items, then ends or waits forever."""

    def __init__(self, *items: int, ends: bool = False) -> None:
        self._items = items
        self._ends = ends
        self.closed = False

    async def rows(self) -> AsyncGenerator[int, None]:
        try:
            for item in self._items:
                yield item
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def test_a_stream_ends_with_its_source() -> None:
    source = _Source(1, 2, 3, ends=True)
    assert [item async for item in until_stopping(asyncio.Event(), source.rows())] == [1, 2, 3]
    assert source.closed


async def test_a_waiting_stream_ends_when_the_server_stops() -> None:
    source, stopping = _Source(1), asyncio.Event()
    received = []
    async with asyncio.timeout(PROMPT):
        async for item in until_stopping(stopping, source.rows()):
            received.append(item)
            stopping.set()
    assert received == [1]
    assert source.closed


async def test_items_from_before_the_stop_are_still_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "DRAIN_SECONDS", PROMPT)
    stopping = asyncio.Event()
    stopping.set()
    received = [item async for item in until_stopping(stopping, _Source(1, 2, ends=True).rows())]
    assert received == [1, 2]


async def test_a_source_without_an_end_does_not_outlive_the_stop_for_long() -> None:
    async def endless() -> AsyncGenerator[int, None]:
        while True:
            yield 1
            await asyncio.sleep(0)

    stopping = asyncio.Event()
    stopping.set()
    async with asyncio.timeout(PROMPT):
        async for _ in until_stopping(stopping, endless()):
            pass


async def test_a_stream_ends_when_its_reader_loses_access(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ACCESS_CHECK_SECONDS", 0.01)
    source, answers, received = _Source(1, 2), iter([True, True, False]), []

    async def has_access() -> bool:
        return next(answers)

    async with asyncio.timeout(PROMPT):
        async for item in until_stopping(asyncio.Event(), source.rows(), has_access):
            received.append(item)
    assert received == [1, 2]
    assert source.closed
    assert list(answers) == []


async def test_a_reader_that_goes_away_closes_the_source() -> None:
    source = _Source(1, 2)
    async with aclosing(
        cast("AsyncGenerator[int, None]", until_stopping(asyncio.Event(), source.rows()))
    ) as stream:
        assert await anext(stream) == 1
    assert source.closed


async def test_a_failing_source_fails_its_stream() -> None:
    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise LookupError("gone")

    with pytest.raises(LookupError):
        _ = [item async for item in until_stopping(asyncio.Event(), broken())]


async def test_silences_are_reported_between_the_items() -> None:
    source, go_on = _Source(1, 2, ends=True), asyncio.Event()

    async def rows() -> AsyncGenerator[int, None]:
        async with aclosing(source.rows()) as items:
            async for item in items:
                yield item
                await go_on.wait()

    received = []
    async with asyncio.timeout(PROMPT):
        async for item in with_silences(rows(), 0.01):
            received.append(item)
            if received.count(None) == 2:
                go_on.set()
    assert [received[:3], received[-1]] == [[1, None, None], 2]
    assert source.closed
