"""Bounded polling: wait for a condition, never for a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

PROMPT = 60.0
"""Seconds for an event without a delay, on a busy machine."""


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]], *, within: float = ..., every: float = ..., what: str = ...
) -> T: ...
@overload
async def eventually(
    condition: Callable[[], T | None], *, within: float = ..., every: float = ..., what: str = ...
) -> T: ...
async def eventually(
    condition: Callable[[], Any], *, within: float = PROMPT, every: float = 0.02, what: str = ""
) -> Any:
    """Poll `condition` (sync or async) until it is truthy or stops raising AssertionError; return its value.

    `within` and `every` are seconds. Fails with what was last seen when the time is up; any exception
    other than AssertionError passes through at once.
    """
    watch = _Watch(what or _name(condition), within)
    while True:
        try:
            seen = condition()
            value = await seen if inspect.isawaitable(seen) else seen
            if value:
                return value
            watch.record(value)
        except AssertionError as error:
            watch.failed(error)
        watch.check()
        await asyncio.sleep(every)


def eventually_sync(
    condition: Callable[[], T | None], *, within: float = PROMPT, every: float = 0.02, what: str = ""
) -> T:
    """`eventually` for tests without an event loop."""
    watch = _Watch(what or _name(condition), within)
    while True:
        try:
            value = condition()
            if value:
                return value
            watch.record(value)
        except AssertionError as error:
            watch.failed(error)
        watch.check()
        time.sleep(every)


class _Watch:
    """Counts the polls and keeps the last value for the failure message."""

    def __init__(self, what: str, within: float) -> None:
        self._what = what
        self._within = within
        self._deadline = time.monotonic() + within
        self._polls = 0
        self._last = "nothing"
        self._error: AssertionError | None = None

    def record(self, value: object) -> None:
        self._polls += 1
        self._last, self._error = repr(value), None

    def failed(self, error: AssertionError) -> None:
        self._polls += 1
        self._last, self._error = f"AssertionError: {error}", error

    def check(self) -> None:
        if time.monotonic() < self._deadline:
            return
        message = (
            f"{self._what} did not come true within {self._within:g} s; poll {self._polls}: {self._last}"
        )
        raise AssertionError(message) from self._error


def _name(condition: Callable[[], object]) -> str:
    name = getattr(condition, "__qualname__", repr(condition))
    if "<lambda>" not in name:
        return name
    code = condition.__code__
    return f"the condition at {code.co_filename}:{code.co_firstlineno}"
