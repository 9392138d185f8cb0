"""Read-only runtimes: a process reads workloads that another process drives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypervisor.infra.clock import SystemClock
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process.read_only import ReadOnlyProcessRuntime
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec, ObservedState, RuntimeUnavailable
from tests.support.logs import line_by_line, lines_of
from tests.support.wait import eventually

INSTANCE = "hv-reader-1-1-0"
INSTALL = "reader"


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    created = ProcessRuntime(tmp_path / "process", INSTALL, SystemClock())
    yield created
    await created.stop(INSTANCE, 0)
    await eventually(lambda: _is_over(created))
    await created.close()


async def test_a_reader_follows_an_instance_of_another_process(
    driver: ProcessRuntime, tmp_path: Path
) -> None:
    reader, gate = ReadOnlyProcessRuntime(tmp_path / "process", INSTALL), tmp_path / "gate"
    wait = f"echo one; until [ -e {gate} ]; do sleep 0.05; done; echo two"
    await driver.start(LaunchSpec(INSTANCE, Resources(), command=("sh", "-c", wait)))
    lines = []
    async for line in line_by_line(reader.logs(INSTANCE, follow=True)):
        lines.append(line)
        if line == "one":
            assert (await reader.observe([INSTANCE]))[INSTANCE].state is ObservedState.RUNNING
            gate.touch()
    assert lines == ["one", "two"]
    seen = (await reader.observe([INSTANCE]))[INSTANCE]
    assert (seen.state, seen.exit_code) == (ObservedState.EXITED, 0)
    await driver.remove(INSTANCE)
    assert (await reader.observe([INSTANCE]))[INSTANCE].state is ObservedState.ABSENT
    assert await lines_of(reader, INSTANCE, follow=True) == ["one", "two"]
    assert await lines_of(reader, INSTANCE, tail=1) == ["two"]


async def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    reader = ReadOnlyProcessRuntime(tmp_path / "process", INSTALL)
    with pytest.raises(RuntimeUnavailable, match="only a scheduler process"):
        await reader.start(LaunchSpec(INSTANCE, Resources(), command=("true",)))
    with pytest.raises(RuntimeUnavailable, match="only a scheduler process"):
        await reader.stop(INSTANCE, 0)
    with pytest.raises(RuntimeUnavailable, match="no scheduler process uses the data directory"):
        await reader.observe([INSTANCE])
    assert not (tmp_path / "process").exists()


async def _is_over(driver: ProcessRuntime) -> bool:
    seen = (await driver.observe([INSTANCE]))[INSTANCE]
    return seen.state in (ObservedState.EXITED, ObservedState.ABSENT)
