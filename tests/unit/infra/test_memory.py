"""Giving memory back: it is taken where the C library can, and nothing happens where it cannot."""

from __future__ import annotations

import ctypes

import pytest

from hypervisor.infra import memory
from tests.support.wait import eventually


class Library:
    """A C library whose calls are noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def malloc_trim(self, pad: int) -> int:
        self.calls.append(("malloc_trim", pad))
        return 1

    def mallopt(self, option: int, value: int) -> int:
        self.calls.append(("mallopt", option, value))
        return 1


async def test_memory_is_given_back_again_and_again_while_a_server_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(memory, "_EVERY_SECONDS", 0.001)
    async with memory.sparing_memory():
        await eventually(lambda: library.calls.count(("malloc_trim", 0)) >= 3)
    assert library.calls[0] == ("mallopt", -8, 2)


async def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    async with memory.sparing_memory():
        assert memory.give_back() is False
