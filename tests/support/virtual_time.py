"""An event loop whose time stands still while a task can run, and jumps to the next timer otherwise.

Hours pass in moments, independent of the speed of the machine. Tasks must not wait for anything outside of
this process: a wait without a timer would never end and is an error here.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time, with plain calls instead of threads. Cancels the remaining tasks."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


AT_ONE_MOMENT = 10_000
"""Turns of the loop at one virtual time before an error: fifty times the maximum of normal runs."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its `time()` begins at 0 and counts virtual seconds."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self._jump))
        self.set_default_executor(_InlineExecutor())

    def time(self) -> float:
        return self._now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to wait for; asyncio would use a thread, which runs in real time."""

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    """Advances the virtual time instead of waiting."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            self._count()
            return []
        if ready := super().select(0):
            return ready
        if timeout is None:
            raise RuntimeError("all tasks wait, and there is no timer")
        self._turns = 0
        self._jump(timeout)
        return []

    def _count(self) -> None:
        self._turns += 1
        if self._turns >= AT_ONE_MOMENT:
            self._turns = 0
            raise RuntimeError("tasks keep waking each other, and no time passes")


class _InlineExecutor(ThreadPoolExecutor):
    """Runs each call at once in the caller's thread, so that the order is repeatable."""

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done
