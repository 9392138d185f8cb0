"""Process runtimes on one state directory. Every instance is stopped after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hypervisor.runtimes.process.runtime import ProcessRuntime
from tests.contract.runtime_cases import RealClock
from tests.support.observing import end_of
from tests.support.process_runtime import INSTALL


@pytest.fixture
async def open_runtime(tmp_path: Path) -> AsyncIterator[Callable[..., ProcessRuntime]]:
    opened: list[ProcessRuntime] = []

    def open_one(state_dir: Path = tmp_path, **options: Any) -> ProcessRuntime:
        opened.append(ProcessRuntime(state_dir, INSTALL, RealClock(), **options))
        return opened[-1]

    yield open_one
    for runtime in opened:
        await runtime.close()
    last = ProcessRuntime(tmp_path, INSTALL, RealClock())
    for name in await last.list_instances():
        await last.stop(name, 0)
        await end_of(last, name)
    await last.close()


@pytest.fixture
def runtime(open_runtime: Callable[..., ProcessRuntime]) -> ProcessRuntime:
    return open_runtime()
