"""Waiting with a bound: a step that does not come true is a failure that says what was expected and seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_EVERY = 0.15
"""Seconds between two looks."""


class DemoFailed(Exception):
    """A step did not happen; the message says what was expected and what was seen."""


def until(what: str, look: Callable[[], T | None], *, within: float, seen: Callable[[], object]) -> T:
    """Look until there is something true; its value. `seen` tells the state when `within` seconds are up."""
    deadline = time.monotonic() + within
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise DemoFailed(f"expected within {within:g} s: {what}; seen: {seen()}")
        time.sleep(LOOK_EVERY)


def expect(truth: bool, what: str, seen: object) -> None:
    """Raise DemoFailed where `what` is not so."""
    if not truth:
        raise DemoFailed(f"expected: {what}; seen: {seen}")
