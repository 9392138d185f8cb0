"""Instances outlive their server, and a reused pid is not mistaken for an instance."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hypervisor.runtimes.process.procfs import ProcessIdentity, boot_id
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import ObservedState
from tests.support.observing import end_of
from tests.support.process_runtime import INSTALL, log_of, marked, new_name, runs, shell, supervisor_of
from tests.support.wait import eventually

SERVER = """
import asyncio, sys
from pathlib import Path
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec
from tests.contract.runtime_cases import RealClock

async def main(state_dir, install, instance, script):
    runtime = ProcessRuntime(Path(state_dir), install, RealClock())
    await runtime.start(LaunchSpec(instance, Resources(), command=("sh", "-c", script)))
    print("started", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_workload_survives_kill_9_of_its_server(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path
) -> None:
    name, gate = new_name(), tmp_path / "gate"
    script = f"echo begun; until [ -e {gate} ]; do sleep 0.05; done; echo done; exit 5"
    argv = [sys.executable, "-c", SERVER, str(tmp_path), INSTALL, name, script]
    server = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    assert await server.stdout.readline() == b"started\n"
    server.kill()
    await server.wait()

    successor = open_runtime()
    again = await successor.start(shell(script, instance=name))
    assert again.state in (ObservedState.CREATED, ObservedState.RUNNING)
    await eventually(lambda: runs(successor, name))
    gate.touch()
    ended = await end_of(successor, name)
    assert ended.exit_code == 5
    assert await log_of(successor, name) == ["begun", "done"]


@pytest.mark.parametrize("wrong", ["start time", "name", "boot"])
async def test_a_reused_pid_is_neither_taken_for_the_instance_nor_killed(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, wrong: str
) -> None:
    name = new_name()
    state = tmp_path / "instances" / name / "state"
    state.parent.mkdir(parents=True)
    with start_stranger() as stranger:
        true = ProcessIdentity.of(stranger.pid)
        assert true is not None
        ticks = true.start_ticks - (1 if wrong == "start time" else 0)
        boot = "another-boot" if wrong == "boot" else boot_id()
        state.write_text(f"{stranger.pid} {ticks} {boot}\n")
        runtime = open_runtime()
        await runtime.stop(name, 0)
        ended = await end_of(runtime, name)
        assert ended.exit_code is None
        assert ended.message
        assert stranger.poll() is None
        stranger.kill()


async def test_a_killed_supervisor_leaves_no_process_and_an_unknown_exit_code(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    spec = shell("sleep 1000")
    await runtime.start(spec)
    supervisor = await eventually(lambda: supervisor_of(tmp_path, spec.instance))
    await eventually(lambda: len(marked(spec.instance)) >= 2)
    supervisor.kill()
    ended = await end_of(runtime, spec.instance)
    assert ended.exit_code is None
    assert ended.message is not None
    assert "killed from outside" in ended.message
    assert marked(spec.instance) == []


async def test_a_closed_runtime_leaves_no_zombie(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path
) -> None:
    """Only the parent can reap a child, even if another process drives the instance now."""
    before, gate, first = set(psutil.Process().children()), tmp_path / "gate", open_runtime()
    spec = shell(f"until [ -e {gate} ]; do sleep 0.05; done")
    await first.start(spec)
    await eventually(lambda: runs(first, spec.instance))
    await first.close()
    gate.touch()
    await eventually(lambda: set(psutil.Process().children()) <= before)


def start_stranger() -> subprocess.Popen[bytes]:
    """A session leader that is not a supervisor."""
    return subprocess.Popen(["sleep", "1000"], start_new_session=True)
