"""The event loop with virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import virtual_time


def test_hours_pass_in_a_moment() -> None:
    async def sleep() -> float:
        await asyncio.sleep(7200)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(sleep()) == pytest.approx(7200)


def test_a_wait_without_end_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="all tasks wait"):
        virtual_time.run(asyncio.Event().wait())


def test_tasks_that_wake_each_other_without_time_passing_are_an_error() -> None:
    async def wait_for(own: asyncio.Event, other: asyncio.Event) -> None:
        while True:
            await own.wait()
            own.clear()
            other.set()

    async def ping_pong() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        first.set()
        await asyncio.gather(wait_for(first, second), wait_for(second, first))

    with pytest.raises(RuntimeError, match="no time passes"):
        virtual_time.run(ping_pong())
