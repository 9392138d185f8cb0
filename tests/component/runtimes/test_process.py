"""What only the process runtime promises: the kernel's side of supervision, adoption and clean-up."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process import ProcessRuntime, logs, shim
from hypervisor.runtimes.process.logs import LogLimits
from hypervisor.runtimes.process.proc import Identity, boot_id
from hypervisor.runtimes.process.shim import SHELL
from hypervisor.runtimes.protocol import LaunchFailed, LaunchSpec, Observation, ObservedState
from tests.contract.runtime_cases import RealClock
from tests.support.wait import PROMPT, eventually

INSTALL = "proctest"
C_LIBRARY_SIGNALS = 0b11 << 31
"""Signals 32 and 33 belong to the C library; no program can set what happens with them."""
_ids = itertools.count(1)

SERVER = """
import asyncio, sys
from pathlib import Path
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec
from tests.contract.runtime_cases import RealClock

async def main(state_dir, install, instance, script):
    runtime = ProcessRuntime(Path(state_dir), install, RealClock())
    await runtime.start(LaunchSpec(instance, Resources(), command=("sh", "-c", script)))
    print("started", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def open_runtime(tmp_path: Path) -> AsyncIterator[Callable[..., ProcessRuntime]]:
    opened: list[ProcessRuntime] = []

    def open_one(**options: object) -> ProcessRuntime:
        opened.append(ProcessRuntime(tmp_path, INSTALL, RealClock(), **options))  # type: ignore[arg-type]
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


@pytest.fixture
def let_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Supervisors make the state file and write their claim into it only once this was called."""
    gate = tmp_path / "gate"
    waiting = f"claim() {{ until [ -e {shlex.quote(str(gate))} ]; do sleep 0.05; done; echo"
    script = shim.SCRIPT.replace("claim() { echo", waiting)
    assert script != shim.SCRIPT
    monkeypatch.setattr(shim, "SCRIPT", script)
    return gate.touch


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

    heir = open_runtime()
    again = await heir.start(shell(script, instance=name))
    assert again.state in (ObservedState.CREATED, ObservedState.RUNNING)
    await eventually(lambda: _runs(heir, name))
    gate.touch()
    ended = await end_of(heir, name)
    assert ended.exit_code == 5
    assert await log_of(heir, name) == ["begun", "done"]


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


async def test_of_what_is_removed_its_logs_and_its_claim_are_left(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    """The claim stays, so that a supervisor that was held up in the folder still comes too late."""
    spec = shell("echo kept; echo data >file; mkdir ../beside; echo x >../beside/file")
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    await runtime.remove(spec.instance)
    assert not (tmp_path / "instances" / spec.instance).exists()
    assert {path.name for path in (tmp_path / "logs" / spec.instance).iterdir()} == {"log", "state"}
    assert await log_of(runtime, spec.instance) == ["kept"]
    trash = tmp_path / "trash"
    await eventually(lambda: not list(trash.iterdir()))


async def test_a_removal_that_was_interrupted_after_its_logs_is_finished(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    spec = shell("echo new")
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    kept = tmp_path / "logs" / spec.instance
    kept.mkdir()
    (kept / "log.1").write_text("old\n")
    await runtime.remove(spec.instance)
    assert not (tmp_path / "instances" / spec.instance).exists()
    assert await log_of(runtime, spec.instance) == ["old", "new"]


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
    await eventually(lambda: _is_created(heir, spec.instance))
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
        assert ended.message == "it never began: its supervisor ended before it could start the program"


@pytest.mark.parametrize("false_by", ["start time", "name", "boot"])
async def test_a_reused_pid_is_neither_taken_for_the_instance_nor_killed(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, false_by: str
) -> None:
    name = new_name()
    state = tmp_path / "instances" / name / "state"
    state.parent.mkdir(parents=True)
    with start_stranger() as stranger:
        true = Identity.of(stranger.pid)
        assert true is not None
        ticks = true.start_ticks - (1 if false_by == "start time" else 0)
        boot = "another-boot" if false_by == "boot" else boot_id()
        state.write_text(f"{stranger.pid} {ticks} {boot}\n")
        runtime = open_runtime()
        await runtime.stop(name, 0)
        ended = await end_of(runtime, name)
        assert ended.exit_code is None
        assert ended.message
        assert stranger.poll() is None
        stranger.kill()


async def test_a_killed_supervisor_leaves_nothing_and_an_honest_answer(
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
    assert "killed by somebody else" in ended.message
    assert marked(spec.instance) == []


LEFTOVERS = {
    "same group": "sleep 1000 &",
    "own group": "python3 -c 'import os, time; os.setpgid(0, 0); time.sleep(1000)' &",
    "own session": "setsid sleep 1000 &",
}


@pytest.mark.parametrize("kind", LEFTOVERS)
async def test_what_the_main_command_leaves_behind_ends_with_it(runtime: ProcessRuntime, kind: str) -> None:
    spec = shell(f"{LEFTOVERS[kind]} sleep 0.3; exit 4")
    await runtime.start(spec)
    assert (await end_of(runtime, spec.instance)).exit_code == 4
    assert marked(spec.instance) == []


@pytest.mark.parametrize("kind", LEFTOVERS)
async def test_the_kill_reaches_every_process_of_the_instance(runtime: ProcessRuntime, kind: str) -> None:
    spec = shell(f"trap '' TERM; {LEFTOVERS[kind]} echo ready; while :; do sleep 0.05; done")
    await runtime.start(spec)
    await eventually(lambda: _is(log_of(runtime, spec.instance), ["ready"]))
    await runtime.stop(spec.instance, 0.2)
    ended = await end_of(runtime, spec.instance)
    assert ended.exit_code == 137
    assert ended.message == "killed: it had not ended 0.2 s after SIGTERM"
    assert marked(spec.instance) == []


async def test_term_reaches_a_child_in_a_session_of_its_own(runtime: ProcessRuntime) -> None:
    """As torchrun starts its workers: they must hear of the stop in time to write a checkpoint."""
    worker = "trap 'echo checkpoint; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    spec = shell(f"trap : TERM; setsid sh -c {shlex.quote(worker)} & wait; wait")
    await runtime.start(spec)
    await eventually(lambda: _is(log_of(runtime, spec.instance), ["ready"]))
    await runtime.stop(spec.instance, 5)
    await end_of(runtime, spec.instance)
    assert "checkpoint" in await log_of(runtime, spec.instance)


async def test_a_second_stop_with_less_grace_brings_the_kill_forward(runtime: ProcessRuntime) -> None:
    spec = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await runtime.start(spec)
    await eventually(lambda: _is(log_of(runtime, spec.instance), ["ready"]))
    await runtime.stop(spec.instance, 3600)
    await runtime.stop(spec.instance, 0)
    assert (await end_of(runtime, spec.instance)).exit_code == 137


async def test_opening_alone_makes_up_for_a_kill_that_was_due(
    open_runtime: Callable[..., ProcessRuntime],
) -> None:
    first, spec = open_runtime(), shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await first.start(spec)
    await eventually(lambda: _is(log_of(first, spec.instance), ["ready"]))
    await first.stop(spec.instance, 0.5)
    await first.close()
    assert (await end_of(open_runtime(), spec.instance)).exit_code == 137


async def test_the_output_on_disk_is_bounded_and_a_follower_misses_nothing(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workload writes a batch when the one before was read and the file has room: see `logs` for why."""
    monkeypatch.setattr(logs, "FOLLOW_INTERVAL", 0.01)
    limit, wanted, batch = 20_000, 2_000, 100
    runtime = open_runtime(log_limits=LogLimits(limit, 3), housekeeping_interval=0.02)
    program = (
        "import os, time\n"
        f"for first in range(0, {wanted}, {batch}):\n"
        f"    while not os.path.exists(f'{tmp_path}/go-{{first}}'): time.sleep(0.01)\n"
        f"    lines = (f'{{number:07}} ' + 'x' * 40 + '\\n' for number in range(first, first + {batch}))\n"
        "    os.write(1, ''.join(lines).encode())\n"
    )
    spec = LaunchSpec(new_name(), Resources(), command=("python3", "-c", program))
    log = tmp_path / "instances" / spec.instance / "log"
    (tmp_path / "go-0").touch()
    await runtime.start(spec)
    numbers = []
    async with asyncio.timeout(90):
        async for line in runtime.logs(spec.instance, follow=True):
            numbers.append(int(line.split()[0]))
            assert disk_use(tmp_path, spec.instance) < 4 * limit
            if len(numbers) % batch == 0 and len(numbers) < wanted:
                await eventually(lambda: log.stat().st_size <= limit * 3 // 4)
                (tmp_path / f"go-{len(numbers)}").touch()
    assert numbers == list(range(wanted))
    kept = [int(line.split()[0]) for line in (await log_of(runtime, spec.instance))[1:]]
    assert kept == list(range(kept[0], wanted))
    assert len(kept) > 1.5 * limit / 50
    tail = [line async for line in runtime.logs(spec.instance, tail=len(kept))]
    assert [int(line.split()[0]) for line in tail] == kept


async def test_a_supervisor_costs_little(runtime: ProcessRuntime, tmp_path: Path) -> None:
    if not SHELL.endswith("dash"):
        pytest.skip("there is no dash here; other shells are larger")
    spec = shell("sleep 1000")
    await runtime.start(spec)
    supervisor = await eventually(lambda: supervisor_of(tmp_path, spec.instance))
    await eventually(lambda: len(marked(spec.instance)) >= 2)
    memory = supervisor.memory_full_info()
    assert memory.rss < 2 * 2**20
    assert memory.uss < 2**19
    assert supervisor.num_threads() == 1


async def test_secrets_in_the_environment_never_reach_the_disk(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    secret = "correct-horse-battery-staple"
    spec = shell("sleep 1000", env={"TOKEN": secret})
    await runtime.start(spec)
    await runtime.stop(spec.instance, 60)
    await end_of(runtime, spec.instance)
    written = contents(tmp_path)
    assert written
    assert [path for path, content in written.items() if secret.encode() in content] == []


async def test_nothing_of_the_server_leaks_into_the_workload(runtime: ProcessRuntime) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        seen = await _what_a_workload_inherits(runtime)
    finally:
        signal.signal(signal.SIGHUP, before)
    # The fourth is the folder that ls itself reads.
    assert seen[:5] == ["0", "1", "2", "3", "/dev/null"]
    blocked, ignored = (int(line.split()[1], 16) & ~C_LIBRARY_SIGNALS for line in seen[5:7])
    assert (blocked, ignored) == (0, 0)


async def _is_created(runtime: ProcessRuntime, name: str) -> bool:
    return (await look(runtime, name)).state is ObservedState.CREATED


async def _runs(runtime: ProcessRuntime, name: str) -> bool:
    return (await look(runtime, name)).state is ObservedState.RUNNING


async def _what_a_workload_inherits(runtime: ProcessRuntime) -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        script = "ls /proc/self/fd; readlink /proc/self/fd/0; grep -E 'SigIgn|SigBlk' /proc/self/status; pwd"
        spec = shell(script)
        await runtime.start(spec)
        await end_of(runtime, spec.instance)
    seen = await log_of(runtime, spec.instance)
    assert seen[7].endswith(f"{spec.instance}/work")
    return seen


async def test_each_workload_gets_ports_of_its_own(runtime: ProcessRuntime, tmp_path: Path) -> None:
    specs = [shell('echo "$PORT $PORT_8080 $PORT_9090"; sleep 1000', ports=(8080, 9090)) for _ in range(5)]
    for spec in specs:
        await runtime.start(spec)
    given = [binding for spec in specs for binding in (await look(runtime, spec.instance)).ports]
    assert [binding.port for binding in given] == [8080, 9090] * 5
    assert len({binding.host_port for binding in given}) == 10
    first, second = given[0].host_port, given[1].host_port
    await eventually(lambda: _is(log_of(runtime, specs[0].instance), [f"{first} {first} {second}"]))
    assert json.loads((tmp_path / "instances" / specs[0].instance / "launch").read_text())["ports"]


@pytest.mark.parametrize(
    ("command", "env", "words"),
    [
        ((), {}, "gives none"),
        (("no-such-program",), {}, "no program 'no-such-program' on the PATH"),
        (("sh",), {"PATH": "/nowhere"}, "no program 'sh' on the PATH"),
        (("./train.sh",), {}, "working directory is new and empty"),
        (("/etc/passwd",), {}, "not executable: /etc/passwd"),
        (("/etc",), {}, "no such program: /etc"),
        (("true", "a\0b"), {}, "cannot be passed on"),
        (("true",), {"A-B": "1"}, "environment variable 'A-B'"),
        (("true", "x" * 200_000), {}, "Argument list too long"),
    ],
)
async def test_what_can_never_start_is_refused_in_plain_words(
    runtime: ProcessRuntime, command: tuple[str, ...], env: dict[str, str], words: str
) -> None:
    spec = LaunchSpec(new_name(), Resources(), command=command, env=env)
    with pytest.raises(LaunchFailed, match=words):
        await runtime.start(spec)
    assert (await look(runtime, spec.instance)).state is ObservedState.ABSENT


async def test_a_program_that_vanishes_underway_is_explained(runtime: ProcessRuntime) -> None:
    spec = shell("no-such-program")
    await runtime.start(spec)
    ended = await end_of(runtime, spec.instance)
    assert ended.exit_code == 127
    assert ended.message is not None
    assert "not found" in ended.message


async def test_many_starts_at_once_all_end_and_leave_no_zombie(runtime: ProcessRuntime) -> None:
    before = set(psutil.Process().children())
    specs = [shell(f"exit {number}") for number in range(60)]
    await asyncio.gather(*(runtime.start(spec) for spec in specs))
    assert [(await end_of(runtime, spec.instance)).exit_code for spec in specs] == list(range(60))
    await eventually(lambda: set(psutil.Process().children()) <= before)


async def test_a_server_that_has_handed_its_work_over_leaves_no_zombie(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path
) -> None:
    """Whoever drives the engine now cannot collect the children of another process."""
    before, gate, first = set(psutil.Process().children()), tmp_path / "gate", open_runtime()
    spec = shell(f"until [ -e {gate} ]; do sleep 0.05; done")
    await first.start(spec)
    await eventually(lambda: _runs(first, spec.instance))
    await first.close()
    gate.touch()
    await eventually(lambda: set(psutil.Process().children()) <= before)


def new_name() -> str:
    return f"hv-{INSTALL}-{next(_ids)}-1-0"


def shell(script: str, *, instance: str | None = None, **fields: object) -> LaunchSpec:
    name = instance or new_name()
    return LaunchSpec(name, Resources(), command=("sh", "-c", script), **fields)  # type: ignore[arg-type]


async def claim_underway(runtime: ProcessRuntime, spec: LaunchSpec, state_dir: Path) -> None:
    """Start it and wait until the state file is there and empty."""
    await runtime.start(spec)
    state = state_dir / "instances" / spec.instance / "state"
    await eventually(state.exists)
    assert state.read_text() == ""


def supervisor_of(state_dir: Path, instance: str) -> psutil.Process:
    state = state_dir / "instances" / instance / "state"
    assert state.exists()
    words = state.read_text().split()
    assert words, "claimed, but nothing is written yet"
    return psutil.Process(int(words[0]))


def marked(instance: str) -> list[int]:
    """Pids of live processes with the instance's mark, found without the code under test."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get("HV_INSTANCE") == instance:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def contents(state_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in state_dir.rglob("*") if path.is_file()}


def start_stranger() -> subprocess.Popen[bytes]:
    """A process that leads a session, as a supervisor does, and is none."""
    return subprocess.Popen(["sleep", "1000"], start_new_session=True)


def disk_use(state_dir: Path, instance: str) -> int:
    total = 0
    for path in (state_dir / "instances" / instance).glob("*log*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


async def look(runtime: ProcessRuntime, name: str) -> Observation:
    return (await runtime.observe([name]))[name]


async def end_of(runtime: ProcessRuntime, name: str) -> Observation:
    async def ended() -> Observation | None:
        seen = await look(runtime, name)
        return seen if seen.state is ObservedState.EXITED else None

    observation = await eventually(ended, what=f"the end of {name}")
    assert observation is not None
    return observation


async def log_of(runtime: ProcessRuntime, name: str) -> list[str]:
    return [line async for line in runtime.logs(name)]


async def _is(lines: object, wanted: list[str]) -> bool:
    seen = await lines  # type: ignore[misc]
    assert seen == wanted
    return True
