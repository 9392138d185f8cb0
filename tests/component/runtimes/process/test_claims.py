"""Claims: exactly one supervisor starts an instance, with any number of servers."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hypervisor.runtimes.process import supervisor
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec, ObservedState
from tests.support.observing import end_of, observation_of
from tests.support.process_runtime import log_of, marked, shell
from tests.support.wait import PROMPT, eventually


@pytest.fixture
def let_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Supervisors create the state file, and write their claim only after a call of this function."""
    gate = tmp_path / "gate"
    waiting = f"claim() {{ until [ -e {shlex.quote(str(gate))} ]; do sleep 0.05; done; echo"
    script = supervisor.SCRIPT.replace("claim() { echo", waiting)
    assert script != supervisor.SCRIPT
    monkeypatch.setattr(supervisor, "SCRIPT", script)
    return gate.touch


async def test_a_server_that_died_before_its_supervisor_claimed_starts_it_once(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    """The directory exists without a claim: the state after kill -9 between the directory and the spawn."""
    spec = shell("echo once")
    (tmp_path / "instances" / spec.instance / "work").mkdir(parents=True)
    assert (await observation_of(runtime, spec.instance)).state is ObservedState.CREATED
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    assert await log_of(runtime, spec.instance) == ["once"]


async def test_an_instance_stopped_before_its_claim_never_starts(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    spec = shell("echo never")
    (tmp_path / "instances" / spec.instance / "work").mkdir(parents=True)
    await runtime.stop(spec.instance, 60)
    assert (await observation_of(runtime, spec.instance)).exit_code == 143
    assert (await runtime.start(spec)).state is ObservedState.EXITED
    assert await log_of(runtime, spec.instance) == []


async def test_a_claim_that_is_being_written_is_waited_for(
    open_runtime: Callable[..., ProcessRuntime], let_claim: Callable[[], None], tmp_path: Path
) -> None:
    first, spec = open_runtime(), shell("exit 5")
    await start_claim(first, spec, tmp_path)
    await first.close()
    successor = open_runtime()
    changes = successor.changes()
    assert (await observation_of(successor, spec.instance)).state is ObservedState.CREATED
    let_claim()
    # A hint without a call: the adopting runtime polls for the claim.
    assert await asyncio.wait_for(anext(changes), PROMPT) == spec.instance
    assert (await end_of(successor, spec.instance)).exit_code == 5


async def test_a_stop_during_the_claim_takes_effect(
    open_runtime: Callable[..., ProcessRuntime], let_claim: Callable[[], None], tmp_path: Path
) -> None:
    first, spec = open_runtime(), shell("echo never")
    await start_claim(first, spec, tmp_path)
    successor = open_runtime()
    await successor.stop(spec.instance, 60)
    assert (await observation_of(successor, spec.instance)).state is ObservedState.CREATED
    let_claim()
    for runtime in (successor, first):
        assert (await end_of(runtime, spec.instance)).exit_code == 143
    assert await log_of(successor, spec.instance) == []


async def test_a_second_supervisor_gives_up_during_the_claim_of_the_first(
    open_runtime: Callable[..., ProcessRuntime], let_claim: Callable[[], None], tmp_path: Path
) -> None:
    first, spec = open_runtime(), shell("echo once")
    await start_claim(first, spec, tmp_path)
    successor = open_runtime()
    await successor.start(spec)
    await eventually(lambda: is_created(successor, spec.instance))
    let_claim()
    for runtime in (successor, first):
        assert (await end_of(runtime, spec.instance)).exit_code == 0
    assert await log_of(successor, spec.instance) == ["once"]


async def test_a_supervisor_that_died_during_its_claim_never_started(
    open_runtime: Callable[..., ProcessRuntime], let_claim: Callable[[], None], tmp_path: Path
) -> None:
    """As after a full disk or a power failure: the state file exists and stays empty."""
    first, spec = open_runtime(), shell("echo never")
    await start_claim(first, spec, tmp_path)
    successor = open_runtime()
    assert (await observation_of(successor, spec.instance)).state is ObservedState.CREATED
    supervisors = [pid for pid in marked(spec.instance) if os.getsid(pid) == pid]
    assert len(supervisors) == 1
    psutil.Process(supervisors[0]).kill()
    for runtime in (successor, first):
        ended = await end_of(runtime, spec.instance)
        assert ended.exit_code is None
        assert ended.message == "never started: the supervisor ended before it could start the program"


async def is_created(runtime: ProcessRuntime, name: str) -> bool:
    return (await observation_of(runtime, name)).state is ObservedState.CREATED


async def start_claim(runtime: ProcessRuntime, spec: LaunchSpec, state_dir: Path) -> None:
    """Start the instance and wait for its empty state file."""
    await runtime.start(spec)
    state = state_dir / "instances" / spec.instance / "state"
    await eventually(state.exists)
    assert state.read_text() == ""
