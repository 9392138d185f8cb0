"""Return of freed memory: with a C library that has the calls, and with one that has not."""

from __future__ import annotations

import ctypes

import pytest

from hypervisor.infra import memory
from tests.support.wait import eventually


class Library:
    """A C library that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def malloc_trim(self, pad: int) -> int:
        self.calls.append(("malloc_trim", pad))
        return 1

    def mallopt(self, option: int, value: int) -> int:
        self.calls.append(("mallopt", option, value))
        return 1


async def test_freed_memory_is_returned_periodically(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(memory, "_INTERVAL_SECONDS", 0.001)
    async with memory.sparing_memory():
        await eventually(lambda: library.calls.count(("malloc_trim", 0)) >= 3)
    assert library.calls[0] == ("mallopt", -8, 2)


async def test_a_c_library_without_the_calls_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    async with memory.sparing_memory():
        assert memory.trim_memory() is False
