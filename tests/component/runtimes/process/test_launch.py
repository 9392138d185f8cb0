"""The environment of a workload, and commands that cannot start."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest

from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.process.supervisor import SHELL
from hypervisor.runtimes.protocol import LaunchFailed, LaunchSpec, ObservedState
from tests.support.observing import end_of, observation_of
from tests.support.process_runtime import equals, log_of, marked, new_name, shell, supervisor_of
from tests.support.wait import eventually

C_LIBRARY_SIGNALS = 0b11 << 31
"""Signals 32 and 33 belong to the C library. A program cannot set their dispositions."""


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


async def test_nothing_of_the_server_leaks_into_the_workload(runtime: ProcessRuntime) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        output = await _inherited_state(runtime)
    finally:
        signal.signal(signal.SIGHUP, before)
    # The fourth is the directory that ls itself reads.
    assert output[:5] == ["0", "1", "2", "3", "/dev/null"]
    blocked, ignored = (int(line.split()[1], 16) & ~C_LIBRARY_SIGNALS for line in output[5:7])
    assert (blocked, ignored) == (0, 0)


async def test_each_workload_gets_distinct_ports(runtime: ProcessRuntime, tmp_path: Path) -> None:
    specs = [shell('echo "$PORT $PORT_8080 $PORT_9090"; sleep 1000', ports=(8080, 9090)) for _ in range(5)]
    for spec in specs:
        await runtime.start(spec)
    given = [binding for spec in specs for binding in (await observation_of(runtime, spec.instance)).ports]
    assert [binding.port for binding in given] == [8080, 9090] * 5
    assert len({binding.host_port for binding in given}) == 10
    first, second = given[0].host_port, given[1].host_port
    await eventually(lambda: equals(log_of(runtime, specs[0].instance), [f"{first} {first} {second}"]))
    assert json.loads((tmp_path / "instances" / specs[0].instance / "launch").read_text())["ports"]


@pytest.mark.parametrize(
    ("command", "env", "words"),
    [
        ((), {}, "has none"),
        (("no-such-program",), {}, "no program 'no-such-program' on the PATH"),
        (("sh",), {"PATH": "/nowhere"}, "no program 'sh' on the PATH"),
        (("./train.sh",), {}, "working directory is new and empty"),
        (("/etc/passwd",), {}, "not executable: /etc/passwd"),
        (("/etc",), {}, "no such program: /etc"),
        (("true", "a\0b"), {}, "cannot be passed on"),
        (("true",), {"A-B": "1"}, "environment variable 'A-B'"),
        (("true", "x" * 200_000), {}, "argument 1 has 200,000 bytes"),
    ],
)
async def test_a_command_that_cannot_start_is_refused_with_a_reason(
    runtime: ProcessRuntime, command: tuple[str, ...], env: dict[str, str], words: str
) -> None:
    spec = LaunchSpec(new_name(), Resources(), command=command, env=env)
    with pytest.raises(LaunchFailed, match=words) as refusal:
        await runtime.start(spec)
    assert not refusal.value.retryable
    assert (await observation_of(runtime, spec.instance)).state is ObservedState.ABSENT


async def test_a_working_directory_must_be_there(runtime: ProcessRuntime, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for directory in (tmp_path / "missing", file, tmp_path / ("long" * 100)):
        spec = shell("true", working_dir=str(directory))
        with pytest.raises(LaunchFailed, match=f"working_dir: there is no directory {directory}") as refusal:
            await runtime.start(spec)
        assert not refusal.value.retryable
        assert (await observation_of(runtime, spec.instance)).state is ObservedState.ABSENT


async def test_a_program_is_found_from_the_working_directory(runtime: ProcessRuntime, tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    program = folder / "run.sh"
    program.write_text("#!/bin/sh\npwd\n")
    program.chmod(0o755)
    spec = LaunchSpec(new_name(), Resources(), command=("./run.sh",), working_dir=str(folder))
    await runtime.start(spec)
    assert (await end_of(runtime, spec.instance)).exit_code == 0
    assert await log_of(runtime, spec.instance) == [str(folder)]


async def test_exit_code_127_is_explained(runtime: ProcessRuntime) -> None:
    spec = shell("no-such-program")
    await runtime.start(spec)
    ended = await end_of(runtime, spec.instance)
    assert ended.exit_code == 127
    assert ended.message is not None
    assert "not found" in ended.message


@pytest.mark.parametrize(
    ("code", "words"),
    [(126, "could not be executed"), (127, "was not found"), (137, "SIGKILL")],
)
async def test_a_code_that_the_program_chose_is_not_taken_for_a_fault(
    runtime: ProcessRuntime, code: int, words: str
) -> None:
    spec = shell(f"exit {code}")
    await runtime.start(spec)
    ended = await end_of(runtime, spec.instance)
    assert f"{words}, or the program's own code" in (ended.message or "")


async def _inherited_state(runtime: ProcessRuntime) -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        script = "ls /proc/self/fd; readlink /proc/self/fd/0; grep -E 'SigIgn|SigBlk' /proc/self/status; pwd"
        spec = shell(script)
        await runtime.start(spec)
        await end_of(runtime, spec.instance)
    output = await log_of(runtime, spec.instance)
    assert output[7].endswith(f"{spec.instance}/work")
    return output
