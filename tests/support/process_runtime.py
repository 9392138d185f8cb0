"""Helpers for tests of the process runtime on this machine."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import psutil

from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec, ObservedState
from tests.support.logs import lines_of
from tests.support.observing import observation_of

INSTALL = f"p{secrets.token_hex(4)}"
"""Unique for this test process, because parallel tests also find processes by the names of instances."""
_ids = itertools.count(1)


def new_name() -> str:
    return f"hv-{INSTALL}-{next(_ids)}-1-0"


def shell(script: str, *, instance: str | None = None, **fields: Any) -> LaunchSpec:
    name = instance or new_name()
    return LaunchSpec(name, Resources(), command=("sh", "-c", script), **fields)


def supervisor_of(state_dir: Path, instance: str) -> psutil.Process:
    state = state_dir / "instances" / instance / "state"
    assert state.exists()
    words = state.read_text().split()
    assert words, "claimed, but nothing is written yet"
    return psutil.Process(int(words[0]))


def marked(instance: str) -> list[int]:
    """Pids of live processes with the instance in their environment, found without the code under test."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get("HV_INSTANCE") == instance:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def log_of(runtime: ProcessRuntime, name: str) -> list[str]:
    return await lines_of(runtime, name)


async def runs(runtime: ProcessRuntime, name: str) -> bool:
    return (await observation_of(runtime, name)).state is ObservedState.RUNNING


async def equals(lines: Awaitable[list[str]], expected: list[str]) -> bool:
    observation = await lines
    assert observation == expected
    return True
