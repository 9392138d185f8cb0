"""Who starts an instance: one supervisor claims it, whichever server is there."""

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
from tests.support.observing import end_of, look
from tests.support.process_runtime import log_of, marked, shell
from tests.support.wait import PROMPT, eventually


@pytest.fixture
def let_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Supervisors make the state file and write their claim into it only once this was called."""
    gate = tmp_path / "gate"
    waiting = f"claim() {{ until [ -e {shlex.quote(str(gate))} ]; do sleep 0.05; done; echo"
    script = supervisor.SCRIPT.replace("claim() { echo", waiting)
    assert script != supervisor.SCRIPT
    monkeypatch.setattr(supervisor, "SCRIPT", script)
    return gate.touch


async def test_a_server_that_died_before_its_supervisor_claimed_starts_it_once(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    """The folder is there, nobody has claimed: the state after kill -9 between the folder and the spawn."""
    spec = shell("echo once")
    (tmp_path / "instances" / spec.instance / "work").mkdir(parents=True)
    assert (await look(runtime, spec.instance)).state is ObservedState.CREATED
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    assert await log_of(runtime, spec.instance) == ["once"]


async def test_what_was_stopped_before_it_began_never_begins(runtime: ProcessRuntime, tmp_path: Path) -> None:
    spec = shell("echo never")
    (tmp_path / "instances" / spec.instance / "work").mkdir(parents=True)
    await runtime.stop(spec.instance, 60)
    assert (await look(runtime, spec.instance)).exit_code == 143
    assert (await runtime.start(spec)).state is ObservedState.EXITED
    assert await log_of(runtime, spec.instance) == []


async def test_a_claim_that_is_being_written_is_waited_for(
    open_runtime: Callable[..., ProcessRuntime], let_claim: Callable[[], None], tmp_path: Path
) -> None:
    first, spec = open_runtime(), shell("exit 5")
    await claim_underway(first, spec, tmp_path)
    await first.close()
    heir = open_runtime()
    changes = heir.changes()
    assert (await look(heir, spec.instance)).state is ObservedState.CREATED
    let_claim()
    # Told without having asked: the claim or already the end, by the one who does not know when it will come.
    assert await asyncio.wait_for(anext(changes), PROMPT) == spec.instance
    assert (await end_of(heir, spec.instance)).exit_code == 5


async def test_a_stop_during_the_claim_is_obeyed(
    open_runtime: Callable[..., ProcessRuntime], let_claim: Callable[[], None], tmp_path: Path
) -> None:
    first, spec = open_runtime(), shell("echo never")
    await claim_underway(first, spec, tmp_path)
    heir = open_runtime()
    await heir.stop(spec.instance, 60)
    assert (await look(heir, spec.instance)).state is ObservedState.CREATED
    let_claim()
    for runtime in (heir, first):
        assert (await end_of(runtime, spec.instance)).exit_code == 143
    assert await log_of(heir, spec.instance) == []


async def test_who_steps_back_leaves_it_to_the_one_that_is_claiming(
    open_runtime: Callable[..., ProcessRuntime], let_claim: Callable[[], None], tmp_path: Path
) -> None:
    first, spec = open_runtime(), shell("echo once")
    await claim_underway(first, spec, tmp_path)
    heir = open_runtime()
    await heir.start(spec)
    await eventually(lambda: is_created(heir, spec.instance))
    let_claim()
    for runtime in (heir, first):
        assert (await end_of(runtime, spec.instance)).exit_code == 0
    assert await log_of(heir, spec.instance) == ["once"]


async def test_a_supervisor_that_died_over_its_claim_never_began(
    open_runtime: Callable[..., ProcessRuntime], let_claim: Callable[[], None], tmp_path: Path
) -> None:
    """As when the disk is full or the power fails: the file is there and nothing will ever be in it."""
    first, spec = open_runtime(), shell("echo never")
    await claim_underway(first, spec, tmp_path)
    heir = open_runtime()
    assert (await look(heir, spec.instance)).state is ObservedState.CREATED
    supervisors = [pid for pid in marked(spec.instance) if os.getsid(pid) == pid]
    assert len(supervisors) == 1
    psutil.Process(supervisors[0]).kill()
    for runtime in (heir, first):
        ended = await end_of(runtime, spec.instance)
        assert ended.exit_code is None
        assert ended.message == "never started: the supervisor ended before it could start the program"


async def is_created(runtime: ProcessRuntime, name: str) -> bool:
    return (await look(runtime, name)).state is ObservedState.CREATED


async def claim_underway(runtime: ProcessRuntime, spec: LaunchSpec, state_dir: Path) -> None:
    """Start it and wait until the state file is there and empty."""
    await runtime.start(spec)
    state = state_dir / "instances" / spec.instance / "state"
    await eventually(state.exists)
    assert state.read_text() == ""
