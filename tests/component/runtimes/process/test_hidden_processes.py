"""What a workload leaves behind ends with it, whatever it did to hide, with and without control groups."""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hypervisor.runtimes.process import cgroups
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.process.supervisor import SCRIPT
from tests.support.observing import end_of
from tests.support.process_runtime import INSTALL, equals, log_of, new_name, runs, shell, supervisor_of
from tests.support.wait import eventually

DAEMON = """\
import os, sys
if os.fork(): os._exit(0)
os.setsid(); os.chdir("/")
if os.fork(): os._exit(0)
for fd in range(3): os.dup2(os.open("/dev/null", os.O_RDWR), fd)
os.execve("/bin/sleep", ["sleep", sys.argv[1]], {})
"""
STUBBORN = "trap '' TERM HUP INT; while :; do sleep SECONDS; done"

HIDDEN = {
    "a session without an environment": "setsid env -i sleep SECONDS &",
    "closed streams": "setsid env -i sleep SECONDS >/dev/null 2>&1 </dev/null &",
    "nohup": "env -i nohup setsid sleep SECONDS >/dev/null 2>&1 &",
    "a daemon by double fork": f"python3 -c {shlex.quote(DAEMON)} SECONDS",
    "a subshell's orphan": "(setsid env -i sh -c 'sleep SECONDS & sleep SECONDS' >/dev/null &)",
    "no signal is heeded": f"setsid env -i sh -c {shlex.quote(STUBBORN)} >/dev/null &",
}

SERVER = """
import asyncio, sys
from pathlib import Path
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec
from tests.contract.runtime_cases import RealClock

async def main(state_dir, install, use_cgroups, instance, script):
    runtime = ProcessRuntime(Path(state_dir), install, RealClock(), use_cgroups=use_cgroups == "True")
    await runtime.start(LaunchSpec(instance, Resources(), command=("sh", "-c", script)))
    print("started", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""

_seconds = itertools.count(1_000_000 + os.getpid() * 1000)


@pytest.fixture
def seconds() -> str:
    """A duration for `sleep` that finds the process again: nothing else names its instance."""
    return str(next(_seconds))


@pytest.fixture(params=[True, False], ids=["cgroups", "subreapers"])
def use_cgroups(request: pytest.FixtureRequest) -> bool:
    if request.param and cgroups.writable_parent() is None:
        pytest.skip("control groups cannot be created here")
    return bool(request.param)


@pytest.fixture(params=["version 2", "version 1", "subreapers"])
def runtime(
    request: pytest.FixtureRequest,
    open_runtime: Callable[..., ProcessRuntime],
    monkeypatch: pytest.MonkeyPatch,
) -> ProcessRuntime:
    if request.param == "subreapers":
        return open_runtime(use_cgroups=False)
    monkeypatch.setattr(
        cgroups, "HIERARCHIES", {"version 2": [""], "version 1": ["name=systemd"]}[request.param]
    )
    if cgroups.writable_parent() is None:
        pytest.skip(f"control groups of {request.param} cannot be created here")
    return open_runtime()


@pytest.mark.parametrize("kind", HIDDEN)
async def test_it_ends_with_a_workload_that_exits(runtime: ProcessRuntime, kind: str, seconds: str) -> None:
    spec = shell(f"{HIDDEN[kind].replace('SECONDS', seconds)}\nsleep 0.2; exit 4")
    await runtime.start(spec)
    assert (await end_of(runtime, spec.instance)).exit_code == 4
    assert sleepers(seconds) == []


@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.parametrize("grace", [0, 60])
async def test_it_ends_with_a_workload_that_is_stopped(
    runtime: ProcessRuntime, kind: str, seconds: str, grace: float
) -> None:
    spec = shell(f"{HIDDEN[kind].replace('SECONDS', seconds)}\necho ready; exec sleep 1000")
    await runtime.start(spec)
    await eventually(lambda: equals(log_of(runtime, spec.instance), ["ready"]))
    await eventually(lambda: sleeps(seconds))
    await runtime.stop(spec.instance, grace)
    assert (await end_of(runtime, spec.instance)).exit_code in (137, 143)
    assert sleepers(seconds) == []


async def test_a_hidden_process_gets_the_signal_to_stop(
    runtime: ProcessRuntime, tmp_path: Path, seconds: str
) -> None:
    """It has the grace period, as every process of the instance. The exit of the workload ends it early."""
    saved = tmp_path / "saved"
    child = f"trap 'echo saved >{saved}; exit' TERM; sleep {seconds} & wait"
    spec = shell(f"trap : TERM; setsid env -i sh -c {shlex.quote(child)} >/dev/null 2>&1 & wait; wait")
    await runtime.start(spec)
    await eventually(lambda: sleeps(seconds))
    await runtime.stop(spec.instance, 60)
    await end_of(runtime, spec.instance)
    assert saved.exists()
    assert sleepers(seconds) == []


@pytest.mark.parametrize("kind", ["a daemon by double fork", "no signal is heeded"])
async def test_it_ends_when_no_server_runs(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, kind: str, seconds: str, use_cgroups: bool
) -> None:
    name, gate = new_name(), tmp_path / "gate"
    script = f"{HIDDEN[kind].replace('SECONDS', seconds)}\nuntil [ -e {gate} ]; do sleep 0.05; done; exit 5"
    await start_and_kill_server(tmp_path, name, script, use_cgroups)
    await eventually(lambda: sleeps(seconds))
    gate.touch()
    await eventually(lambda: not sleepers(seconds))
    successor = open_runtime(use_cgroups=use_cgroups)
    assert (await end_of(successor, name)).exit_code == 5
    assert await log_of(successor, name) == []


async def test_the_next_server_stops_it(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, seconds: str, use_cgroups: bool
) -> None:
    name = new_name()
    script = f"{HIDDEN['no signal is heeded'].replace('SECONDS', seconds)}\nexec sleep 1000"
    await start_and_kill_server(tmp_path, name, script, use_cgroups)
    await eventually(lambda: sleeps(seconds))
    successor = open_runtime(use_cgroups=use_cgroups)
    assert await runs(successor, name)
    await successor.stop(name, 60)
    assert (await end_of(successor, name)).exit_code == 143
    assert sleepers(seconds) == []


async def test_a_killed_supervisor_does_not_free_a_hidden_process(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, seconds: str, use_cgroups: bool
) -> None:
    if not use_cgroups:
        pytest.skip("a subreaper that is killed leaves its orphans to the next one")
    name, daemon = new_name(), HIDDEN["a daemon by double fork"].replace("SECONDS", seconds)
    await start_and_kill_server(tmp_path, name, f"{daemon}\nexec sleep 1000", use_cgroups)
    await eventually(lambda: sleeps(seconds))
    supervisor_of(tmp_path, name).kill()
    successor = open_runtime()
    assert (await end_of(successor, name)).exit_code is None
    assert sleepers(seconds) == []


async def test_no_control_group_is_left(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, seconds: str
) -> None:
    parent = cgroups.writable_parent()
    if parent is None:
        pytest.skip("control groups cannot be created here")
    runtime = open_runtime()
    spec = shell(f"setsid env -i sleep {seconds} & exec sleep 1000")
    await runtime.start(spec)
    group = parent / spec.instance
    await eventually(lambda: len((group / "cgroup.procs").read_text().split()) == 2)
    (group / "below").mkdir()
    await runtime.stop(spec.instance, 0)
    await end_of(runtime, spec.instance)
    assert not group.exists()
    # As after a crash between the creation and the start.
    abandoned = parent / new_name()
    abandoned.mkdir()
    await open_runtime().probe()
    assert not abandoned.exists()


async def test_a_process_that_moved_to_a_group_below_is_found(
    open_runtime: Callable[..., ProcessRuntime], seconds: str
) -> None:
    """As an engine does that runs inside of a workload."""
    parent = cgroups.writable_parent()
    if parent is None:
        pytest.skip("control groups cannot be created here")
    runtime, name = open_runtime(), new_name()
    below = parent / name / "below"
    hide = f"mkdir {below}; setsid env -i sh -c 'echo 0 >{below}/cgroup.procs; exec sleep {seconds}' &"
    spec = shell(f"{hide} until grep -q . {below}/cgroup.procs; do sleep 0.05; done; exit 4", instance=name)
    await runtime.start(spec)
    assert (await end_of(runtime, name)).exit_code == 4
    assert sleepers(seconds) == []
    assert not (parent / name).exists()


async def test_the_spawner_is_started_again(
    open_runtime: Callable[..., ProcessRuntime], seconds: str
) -> None:
    runtime = open_runtime(use_cgroups=False)
    before = set(psutil.Process().children())
    first, second = shell("exit 1"), shell(f"setsid env -i sleep {seconds} & exit 2")
    await runtime.start(first)
    (spawner,) = set(psutil.Process().children()) - before
    await end_of(runtime, first.instance)
    spawner.kill()
    await runtime.start(second)
    assert (await end_of(runtime, second.instance)).exit_code == 2
    assert sleepers(seconds) == []
    await runtime.close()
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize("allowed", [True, False])
async def test_the_probe_tells_how_processes_are_contained(
    open_runtime: Callable[..., ProcessRuntime], allowed: bool
) -> None:
    parent = cgroups.writable_parent() if allowed else None
    details = (await open_runtime(use_cgroups=allowed).probe()).details
    assert details["containment"] == (f"control groups below {parent}" if parent else "child subreapers")


async def start_and_kill_server(state_dir: Path, name: str, script: str, use_cgroups: bool) -> None:
    """Start an instance with a server of its own, and kill the server."""
    argv = [sys.executable, "-c", SERVER, str(state_dir), INSTALL, str(use_cgroups), name, script]
    server = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    assert await server.stdout.readline() == b"started\n"
    server.kill()
    await server.wait()


def sleepers(seconds: str) -> list[list[str]]:
    """The command lines of live processes with this word, found without the code under test."""
    found = []
    for process in psutil.process_iter():
        try:
            alive, command = process.status() != psutil.STATUS_ZOMBIE, process.cmdline()
            if alive and any(seconds in word for word in command) and not is_supervisor(command):
                found.append(command)
        except psutil.Error:
            continue
    return found


def sleeps(seconds: str) -> bool:
    """Whether the hidden process has come so far that it sleeps."""
    return ["sleep", seconds] in sleepers(seconds)


def is_supervisor(command: list[str]) -> bool:
    return SCRIPT in command
