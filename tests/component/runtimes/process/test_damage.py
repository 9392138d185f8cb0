"""A workload can write to the files beside its working directory: it harms its own instance alone."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.runtimes.process.instance_dir import InstanceDir
from hypervisor.runtimes.process.instance_state import InstanceState
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec, ObservedState
from tests.support.logs import lines_of
from tests.support.observing import end_of, observation_of
from tests.support.process_runtime import log_of, marked, runs, shell
from tests.support.wait import eventually

DAMAGED = "exit code unknown: its state file is damaged"

REPLACEMENTS = {
    "directory": "rm ../state; mkdir ../state",
    "fifo": "rm ../state; mkfifo ../state",
    "loop": "rm ../state; ln -s state ../state",
    "link": "rm ../state; echo x >kept; ln -s work/kept ../state",
    "large": "truncate -s 1G ../state",
    "text": "echo x >../state",
    "binary": "head -c 1000 /dev/urandom | tr -d '\\n' >../state; echo >>../state",
}
LINES = ["exit ²", "exit 9999999999999", "finished abc", "finished inf", "finished nan", "copier ²"]


@pytest.mark.parametrize("line", LINES)
async def test_an_unreadable_line_neither_stops_a_new_server_nor_hides_the_end(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, line: str
) -> None:
    first, gate = open_runtime(), tmp_path / "gate"
    spec, other = (
        shell(f"echo {shlex.quote(line)} >>../state; echo damaged; {wait_for(gate)}; exit 3"),
        shell("sleep 1000"),
    )
    await start_damaged(first, spec)
    await first.start(other)
    await first.close()
    successor = open_runtime()
    assert set(await successor.list_instances()) == {spec.instance, other.instance}
    gate.touch()
    assert (await end_of(successor, spec.instance)).exit_code == 3
    await eventually(lambda: runs(successor, other.instance))


@pytest.mark.parametrize("damage", REPLACEMENTS)
@pytest.mark.parametrize("adopted", [False, True])
async def test_a_damaged_state_file_ends_its_own_instance_only(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, damage: str, adopted: bool
) -> None:
    runtime, gate = open_runtime(), tmp_path / "gate"
    spec, other = shell(f"{REPLACEMENTS[damage]}; echo damaged; {wait_for(gate)}"), shell("sleep 1000")
    await start_damaged(runtime, spec)
    await runtime.start(other)
    if adopted:
        await runtime.close()
        runtime = open_runtime()
    await eventually(lambda: runs(runtime, other.instance))
    assert (await observation_of(runtime, spec.instance)).state is ObservedState.RUNNING
    gate.touch()
    ended = await asyncio.wait_for(end_of(runtime, spec.instance), 20)
    assert ended.exit_code is None or damage in ("text", "binary")
    assert ended.exit_code == 0 or ended.message == DAMAGED
    assert await log_of(runtime, spec.instance) == ["damaged"]
    assert await runtime.remove(spec.instance)
    assert (await observation_of(runtime, other.instance)).state is ObservedState.RUNNING


@pytest.mark.parametrize("adopted", [False, True])
async def test_an_instance_with_a_damaged_state_file_can_be_stopped(
    open_runtime: Callable[..., ProcessRuntime], adopted: bool
) -> None:
    runtime = open_runtime()
    spec = shell(f"{REPLACEMENTS['directory']}; echo damaged; trap '' TERM; sleep 1000 & wait; sleep 1000")
    await start_damaged(runtime, spec)
    if adopted:
        await runtime.close()
        runtime = open_runtime()
    await runtime.stop(spec.instance, 0.1)
    await end_of(runtime, spec.instance)
    assert marked(spec.instance) == []


@pytest.mark.parametrize("put", ["mkdir", "mkfifo", "ln -s log-1", "ln -s work/kept"])
async def test_another_thing_in_the_place_of_the_log_is_no_output(
    runtime: ProcessRuntime, tmp_path: Path, put: str
) -> None:
    gate = tmp_path / "gate"
    spec = shell(f"rm ../log-1; {put} ../log-1; touch ../ready; {wait_for(gate)}")
    await runtime.start(spec)
    await eventually(lambda: (tmp_path / "instances" / spec.instance / "ready").exists())
    assert await log_of(runtime, spec.instance) == []
    gate.touch()
    await end_of(runtime, spec.instance)
    assert await lines_of(runtime, spec.instance, tail=5) == []
    assert await runtime.remove(spec.instance)
    assert await log_of(runtime, spec.instance) == []


@pytest.mark.parametrize("helper", ["$PPID", "$(sed -n 's/^copier //p' ../state)"])
async def test_a_workload_that_stops_its_helpers_ends_with_its_code_and_output(
    open_runtime: Callable[..., ProcessRuntime], helper: str
) -> None:
    runtime = open_runtime(housekeeping_interval=0.05)
    script = f"until grep -q copier ../state; do sleep 0.01; done; kill -STOP {helper}; echo last; exit 3"
    spec = shell(script)
    await runtime.start(spec)
    assert (await end_of(runtime, spec.instance)).exit_code == 3
    assert await log_of(runtime, spec.instance) == ["last"]


async def test_an_unforeseen_error_of_one_instance_does_not_hide_the_others(
    open_runtime: Callable[..., ProcessRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, spec, other = open_runtime(), shell("exit 3"), shell("sleep 1000")
    await first.start(spec)
    await first.start(other)
    await first.close()
    read = InstanceDir.state

    def fail_for_one(directory: InstanceDir) -> InstanceState | None:
        if directory.path.name == spec.instance:
            raise RuntimeError("unforeseen")
        return read(directory)

    monkeypatch.setattr(InstanceDir, "state", fail_for_one)
    successor = open_runtime(housekeeping_interval=0.01)
    observations = await successor.list_instances()
    assert observations[spec.instance].message == "its state cannot be read: unforeseen"
    await eventually(lambda: runs(successor, other.instance))
    monkeypatch.undo()
    assert (await end_of(successor, spec.instance)).exit_code == 3


async def start_damaged(runtime: ProcessRuntime, spec: LaunchSpec) -> None:
    """Start the workload, and wait until it has written its last words before it waits."""
    await runtime.start(spec)
    await eventually(lambda: damaged(runtime, spec))


async def damaged(runtime: ProcessRuntime, spec: LaunchSpec) -> bool:
    return await log_of(runtime, spec.instance) == ["damaged"]


def wait_for(gate: Path) -> str:
    return f"until [ -e {gate} ]; do sleep 0.05; done"
