"""Waits with a timeout and checks. A failure reports the expected and the observed state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.15


class DemoFailed(Exception):
    """A step of the demo failed. The message has the expected and the observed state."""


def until(
    expected: str, poll: Callable[[], T | None], *, timeout: float, observed: Callable[[], object]
) -> T:
    """Call `poll` until it returns a true value, and return the value.

    Raises DemoFailed after `timeout` seconds, with the result of `observed`.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = poll()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise DemoFailed(f"expected within {timeout:g} s: {expected}; observed: {observed()}")
        time.sleep(POLL_SECONDS)


def expect(condition: bool, expected: str, observed: object) -> None:
    """Raise DemoFailed unless the condition holds."""
    if not condition:
        raise DemoFailed(f"expected: {expected}; observed: {observed}")
